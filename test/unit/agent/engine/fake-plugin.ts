// A volume plugin of Docker's protocol on a socket: its volumes are folders, and it notes what it is asked.

import { mkdirSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { dirname, join } from "node:path";
import { json } from "node:stream/consumers";

type Body = { readonly Name?: string; readonly ID?: string; readonly Opts?: object };

export class FakePlugin {
  readonly asked: string[] = [];
  readonly volumes = new Set<string>();
  readonly mounts = new Set<string>();
  /** What it answers a method with instead. */
  readonly failures = new Map<string, string>();
  readonly #server: Server;
  readonly #folder: string;

  static async listen(socket: string, folder: string): Promise<FakePlugin> {
    mkdirSync(dirname(socket), { recursive: true });
    const plugin = new FakePlugin(folder);
    await new Promise<void>((resolve) => plugin.#server.listen(socket, resolve));
    return plugin;
  }

  private constructor(folder: string) {
    this.#folder = folder;
    this.#server = createServer(async (request, response) => {
      const method = (request.url ?? "").slice(1);
      const body = (await json(request)) as Body;
      this.asked.push([method.split(".")[1], body.Name].filter(Boolean).join(" "));
      const Err = this.failures.get(method);
      response.statusCode = Err === undefined ? 200 : 500;
      response.end(JSON.stringify(Err === undefined ? this.#answer(method, body) : { Err }));
    });
  }

  place(name: string): string {
    return join(this.#folder, name);
  }

  #answer(method: string, { Name = "", ID = "" }: Body): object {
    const volume = (each: string) => ({ Name: each, Mountpoint: this.place(each) });
    switch (method) {
      case "Plugin.Activate":
        return { Implements: ["VolumeDriver"] };
      case "VolumeDriver.Create":
        mkdirSync(this.place(Name), { recursive: true });
        this.volumes.add(Name);
        return { Err: "" };
      case "VolumeDriver.Remove":
        this.volumes.delete(Name);
        return { Err: "" };
      case "VolumeDriver.Mount":
        this.mounts.add(`${Name} ${ID}`);
        return { Mountpoint: this.place(Name), Err: "" };
      case "VolumeDriver.Unmount":
        this.mounts.delete(`${Name} ${ID}`);
        return { Err: "" };
      case "VolumeDriver.Get":
        return this.volumes.has(Name)
          ? { Volume: { ...volume(Name), Status: { disk: "ok" } } }
          : { Err: "no such volume" };
      case "VolumeDriver.List":
        return { Volumes: [...this.volumes].map(volume) };
      default:
        return { Capabilities: { Scope: "global" } };
    }
  }

  close(): Promise<void> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }
}
