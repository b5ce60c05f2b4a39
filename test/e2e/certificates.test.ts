// Certificates of some seconds are renewed, the CA is rotated, the leader killed and the port flooded, all under load: nothing fails,
// nothing restarts, and nothing of it can be read on the wire.

import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { machine } from "../../deploy/lab/names.ts";
import {
  api,
  attemptDocker,
  docker,
  inOutside,
  type Load,
  lab,
  startLoad,
  tsswarm,
  until,
  untilReady,
  untilRunning,
  visitFromOutside,
  withLab,
} from "./harness.ts";
import { killProgram } from "./hosts.ts";
import { nodes, untilManaged } from "./managers-kit.ts";
import { identities, startCapture } from "./watching.ts";

const hosts = ["h1", "h2", "h3"] as const;
const whoami = "registry.lab:5000/whoami";
const port = 8087;
const secretValue = "an-environment-value-for-no-eyes-on-the-wire";
const lifeSeconds = 40;
const waitMsMax = 90_000;
const floodMs = 4_000;

const folder = mkdtempSync(join(tmpdir(), "tsswarm-certificates-"));
const closers: (() => Promise<void> | void)[] = [];
const secrets: string[] = [secretValue, "PRIVATE KEY"];
let load: Load | undefined;
let untouched: readonly string[] = [];

interface Swarm {
  readonly JoinTokens: { readonly Worker: string; readonly Manager: string };
  readonly TLSInfo: { readonly TrustRoot: string };
  readonly RootRotationInProgress: boolean;
}

const swarmOf = (host: string) =>
  api(host).get<Swarm>("/swarm", { signal: AbortSignal.timeout(10_000) });

async function noteTokens(): Promise<Swarm> {
  const swarm = await swarmOf("h1");
  for (const token of Object.values(swarm.JoinTokens))
    secrets.push(token.split("-").at(-1) ?? token);
  return swarm;
}

/** As it lies on the host's disk. */
function certificateOf(host: string): X509Certificate {
  const path = join(machine(host).disk, "var-lib", "tsswarm", "identity", "certificate.pem");
  return new X509Certificate(readFileSync(path));
}

const serials = () => hosts.map((host) => certificateOf(host).serialNumber);

before(async () => {
  closers.push(() => rmSync(folder, { recursive: true, force: true }), await withLab());
  closers.push(startCapture(join(folder, "wire.pcap")));
  await noteTokens();
});

after(async () => {
  await load?.stop();
  try {
    await putBack();
  } finally {
    for (const close of closers.reverse()) await close();
  }
});

/** The lab as it was: certificates that last, one manager, no service of ours. */
async function putBack(): Promise<void> {
  await docker("h1", "swarm", "update", "--cert-expiry", "2160h");
  await attemptDocker("h1", "service", "rm", "kept");
  for (const host of ["h2", "h3"])
    await until(`${host} is not demoted`, waitMsMax, async () =>
      (await attemptDocker("h1", "node", "demote", host)).code === 0 ? true : undefined,
    );
  await untilManaged(["h1"]);
  await untilReady("h1", hosts.length, waitMsMax);
}

test("a node leaves and joins again, all become managers, and a service runs under load", async () => {
  const { JoinTokens } = await swarmOf("h1");
  const [gone] = (await nodes("h1")).filter((node) => node.Description.Hostname === "h3");
  await docker("h3", "swarm", "leave", "--force");
  await docker("h1", "node", "rm", "--force", gone?.ID ?? "");
  const remote = `${machine("h1").address}:2377`;
  await docker("h3", "swarm", "join", "--token", JoinTokens.Worker, remote);
  await untilReady("h1", hosts.length, waitMsMax);
  const names = (await nodes("h1"))
    .filter((node) => node.ManagerStatus === undefined)
    .map((node) => node.Description.Hostname);
  await docker("h1", "node", "promote", ...names);
  await untilManaged(hosts);
  await docker(
    "h1",
    ...["service", "create", "--detach", "--name", "kept", "--replicas", "6"],
    ...["--publish", `${port}:80`, "--env", `SECRET=${secretValue}`, whoami],
  );
  untouched = await identities(await untilRunning("h1", "kept", 6, waitMsMax));
  const urls = hosts.map((host) => `http://${machine(host).address}:${port}/`);
  await until("the service does not answer everywhere", waitMsMax, async () => {
    const asked = urls.map((url) => visitFromOutside(url, 1));
    return (
      (await Promise.allSettled(asked)).every(({ status }) => status === "fulfilled") || undefined
    );
  });
  load = startLoad(urls, 20);
  assert.match(await docker("h1", "service", "logs", "kept"), /Starting up/);
});

test("a shorter life reaches every node at once", async () => {
  const old = serials();
  await docker("h1", "swarm", "update", "--cert-expiry", `${lifeSeconds}s`);
  await until("not all certificates are short", waitMsMax, async () => {
    const all = hosts.map((host) => certificateOf(host));
    const isShort = all.every(
      (one) => Date.parse(one.validTo) <= Date.now() + lifeSeconds * 1000 + 1000,
    );
    return isShort && all.every((one) => !old.includes(one.serialNumber)) ? true : undefined;
  });
});

test("only the cluster's port listens, and it speaks nothing but TLS 1.3", async () => {
  for (const host of hosts) {
    const rows = (await lab("exec", host, "--", "ss", "-Hltun")).split("\n").filter(Boolean);
    const listening = rows.map((row) => {
      const [kind = "", , , , local = ""] = row.trim().split(/\s+/);
      return `${kind} ${local.slice(local.lastIndexOf(":") + 1)}`;
    });
    // VXLAN, the kernel's own, is the data path; a published port is held, so that no program of the host takes it.
    const known = ["udp 4789", `tcp ${port}`];
    const others = new Set(listening.filter((one) => !known.includes(one)));
    assert.deepEqual([...others], ["tcp 2377"], host);
  }
  const script = `
    const tls = require("node:tls"), net = require("node:net");
    const [host, port] = ["${machine("h1").address}", 2377];
    const options = { host, port, rejectUnauthorized: false, ALPNProtocols: ["h2"] };
    const plain = () => new Promise((resolve) => {
      const socket = net.connect({ host, port }, () => socket.write("PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n"));
      let got = Buffer.alloc(0);
      socket.on("data", (part) => { got = Buffer.concat([got, part]); }).on("error", () => {}).on("close", () => resolve(got.includes("HTTP") ? "answered" : "closed"));
    });
    const as = (version) => new Promise((resolve) => {
      const socket = tls.connect({ ...options, minVersion: version, maxVersion: version });
      socket.once("secureConnect", () => { resolve(socket.getProtocol()); socket.destroy(); }).once("error", (error) => resolve(error.code));
    });
    (async () => console.log(JSON.stringify([await plain(), await as("TLSv1.2"), await as("TLSv1.3")])))();`;
  const said = await lab("exec", "outside", "--", process.execPath, "-e", script);
  assert.deepEqual(JSON.parse(said), ["closed", "ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION", "TLSv1.3"]);
});

test("a flood of connections and handshakes elects nobody and ends no session", async (t) => {
  const leader = await untilManaged(hosts);
  const script = `
    const tls = require("node:tls"), net = require("node:net");
    const until = Date.now() + ${floodMs}; let done = 0, refused = 0;
    const idle = [];
    const one = () => new Promise((resolve) => {
      const socket = tls.connect({ host: "${machine(leader).address}", port: 2377, rejectUnauthorized: false, ALPNProtocols: ["h2"] });
      socket.once("secureConnect", () => { done++; socket.destroy(); resolve(); }).once("error", () => { refused++; setTimeout(resolve, 5); });
    });
    const loris = setInterval(() => { const s = net.connect(2377, "${machine(leader).address}"); s.on("error", () => {}); idle.push(s); }, 10);
    Promise.all(Array.from({ length: 64 }, async () => { while (Date.now() < until) await one(); })).then(() => {
      clearInterval(loris); for (const s of idle) s.destroy(); console.log(JSON.stringify({ done, refused }));
    });`;
  const child = inOutside(process.execPath, ["-e", script]);
  let said = "";
  child.stdout?.on("data", (part: Buffer) => {
    said += part.toString();
  });
  const over = new Promise<void>((resolve) => child.on("close", () => resolve()));
  const unwell: unknown[] = [];
  let isOver = false;
  void over.then(() => {
    isOver = true;
  });
  while (!isOver) {
    const all = await nodes(leader);
    const is = all.find((node) => node.ManagerStatus?.Leader === true)?.Description.Hostname;
    if (is !== leader || all.some((node) => node.Status.State !== "ready")) unwell.push(all);
  }
  const { done, refused } = JSON.parse(said) as { done: number; refused: number };
  t.diagnostic(`${done} handshakes were made in ${floodMs} ms, ${refused} turned away`);
  assert.ok(refused > 0, "a flood is turned away");
  assert.ok(done < 600, `${done} handshakes`);
  assert.deepEqual(unwell, []);
});

test("certificates are renewed by themselves before they end", async () => {
  const old = serials();
  await until("not all certificates were renewed", waitMsMax, async () =>
    serials().every((serial) => !old.includes(serial)) ? true : undefined,
  );
  for (const host of hosts) assert.ok(Date.parse(certificateOf(host).validTo) > Date.now(), host);
});

test("the CA is rotated with Docker's command: another root, other tokens, all nodes follow", async () => {
  const old = await swarmOf("h1");
  const said = await docker("h1", "swarm", "ca", "--rotate");
  const now = await noteTokens();
  assert.equal(now.RootRotationInProgress, false);
  assert.notEqual(now.TLSInfo.TrustRoot, old.TLSInfo.TrustRoot);
  assert.ok(said.includes(now.TLSInfo.TrustRoot.trim()));
  assert.equal(await tsswarm("h2", "swarm", "ca"), now.TLSInfo.TrustRoot.trim());
  const root = new X509Certificate(now.TLSInfo.TrustRoot);
  for (const host of hosts) assert.ok(certificateOf(host).verify(root.publicKey), host);
  for (const role of ["Worker", "Manager"] as const)
    assert.notEqual(now.JoinTokens[role], old.JoinTokens[role]);
});

test("a rotation goes on when its leader is killed", async () => {
  const leader = await untilManaged(hosts);
  const [other = ""] = hosts.filter((host) => host !== leader);
  const old = await swarmOf(leader);
  await tsswarm(leader, "swarm", "ca", "--rotate", "--detach");
  await killProgram(leader, "manager");
  await until("the rotation does not end", waitMsMax, async () => {
    const now = await swarmOf(other).catch(() => null);
    if (now === null || now.RootRotationInProgress) return undefined;
    return now.TLSInfo.TrustRoot === old.TLSInfo.TrustRoot ? undefined : true;
  });
  await untilManaged(hosts);
  await noteTokens();
});

test("no request failed, no container was touched, and nothing secret was on the wire", async (t) => {
  const { answered, failures } = (await load?.stop()) ?? assert.fail("there is no load");
  t.diagnostic(`${answered} requests`);
  assert.deepEqual(failures, []);
  assert.ok(answered > 100);
  const now = await identities(await untilRunning("h1", "kept", 6, waitMsMax));
  assert.deepEqual([...now].sort(), [...untouched].sort());
  await putBack();
  await closers.pop()?.();
  const wire = readFileSync(join(folder, "wire.pcap"));
  assert.ok(wire.includes("RemoteAddr: "), "what passes between the hosts was captured");
  for (const secret of secrets)
    assert.equal(wire.includes(secret), false, "a secret was on the wire");
});
