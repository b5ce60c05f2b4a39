// Builds with the unmodified docker command on an engine of their own: contexts, and what images made of them say.

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { OpenEngine } from "../../agent/engine/engine.ts";
import type { Runtime } from "../../agent/runtime/types.ts";
import { busyboxLayer, Ground, until } from "./engine-kit.ts";
import { Door, type Ran } from "./image-kit.ts";

type Files = Readonly<Record<string, string | Buffer>>;

export class BuildGround {
  readonly ground: Ground;
  readonly engine: OpenEngine;
  readonly runtime: Runtime;
  readonly door: Door;
  #contexts = 0;

  /** With the image base:1, which has a shell. */
  static async make(name: string): Promise<BuildGround> {
    const ground = await Ground.make(name);
    const { engine, runtime } = await ground.open();
    const door = await Door.open(ground, engine);
    await door.attempt(["import", "-c", "ENV PATH=/bin", "-c", 'CMD ["/bin/sh"]', "-", "base:1"], {
      input: busyboxLayer(ground.directory),
    });
    return new BuildGround({ ground, engine, runtime, door });
  }

  private constructor(parts: Pick<BuildGround, "ground" | "engine" | "runtime" | "door">) {
    this.ground = parts.ground;
    this.engine = parts.engine;
    this.runtime = parts.runtime;
    this.door = parts.door;
  }

  async remove(): Promise<void> {
    await this.door.close();
    await this.ground.remove();
  }

  /** A folder with these files. */
  contextOf(files: Files): string {
    const folder = join(this.ground.directory, `context-${++this.#contexts}`);
    mkdirSync(folder);
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, name)), { recursive: true });
      writeFileSync(join(folder, name), content);
    }
    return folder;
  }

  /** By the classic builder. Steps have the host's network: this engine has none of its own. */
  build(folder: string, ...args: readonly string[]): Promise<Ran> {
    return this.door.attempt(["build", "--network", "host", ...args, folder]);
  }

  /** What a command says in a container of the image. */
  async run(image: string, ...command: readonly string[]): Promise<string> {
    const ran = await this.door.attempt(["run", "--rm", "--network", "host", image, ...command]);
    return `${ran.stdout}${ran.stderr}`.trimEnd();
  }

  async untilStepRuns(): Promise<void> {
    const isRunning = () => this.engine.list().some(({ state }) => state.Status === "running");
    await until("the step runs", isRunning);
  }

  async untilNoContainer(): Promise<void> {
    await until("its container is gone", () => this.engine.list().length === 0);
  }
}

export function succeeded(ran: Ran): Ran {
  assert.equal(ran.code, 0, `${ran.stdout}\n${ran.stderr}`);
  return ran;
}
