// Makes a fresh clone on a fresh Debian ready to run: `node deploy/setup.mjs [--for-tests] [--for-bench] [--for-peer]`. Idempotent; plain JavaScript without
// dependencies, because it runs before `npm ci`. Every lack is one sentence and exit code 1.

import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const root = new URL("..", import.meta.url).pathname;
const forTests = process.argv.includes("--for-tests");
const forBench = process.argv.includes("--for-bench");
const forPeer = process.argv.includes("--for-peer");
const nodeMinimum = [20, 11];
const policyFile = "/usr/sbin/policy-rc.d";

/** Programs and the Debian packages that bring them. */
const programs = {
  containerd: "containerd",
  runc: "runc",
  crun: "crun",
  nft: "nftables",
  ip: "iproute2",
  "docker-registry": "docker-registry",
  busybox: "busybox",
  perl: "perl-base",
  nsenter: "util-linux",
  tini: "tini",
  ...(forTests
    ? {
        docker: "docker.io",
        // Debian's brings a command from before 23, which speaks BuildKit's protocol by itself, also where a newer one is there.
        dockerd: "docker.io",
        tcpdump: "tcpdump",
        socat: "socat",
        zstd: "zstd",
        "ssh-add": "openssh-client",
      }
    : {}),
  ...(forBench ? { iperf3: "iperf3" } : {}),
  ...(forPeer ? { dockerd: "docker.io", iptables: "iptables", etcd: "etcd-server" } : {}),
};

class Lack extends Error {}

function say(line) {
  console.log(`setup: ${line}`);
}

/** Runs a program; throws with `sentence` and its errors, else the end of what it said, when it fails. */
function run(sentence, command, args, options = {}) {
  const done = spawnSync(command, args, { encoding: "utf8", maxBuffer: 1 << 28, ...options });
  if (done.error === undefined && done.status === 0) return done.stdout;
  const lines = `${done.stdout ?? ""}${done.stderr ?? ""}`.trim().split("\n");
  const errors = lines.filter((line) => /^E: |^npm (error|ERR!) \w*Error: /.test(line));
  const said = errors.length > 0 ? errors.slice(0, 5).join("; ") : lines.slice(-15).join("\n");
  throw new Lack(`${sentence}: ${done.error?.message ?? said}`);
}

function succeeds(command, ...args) {
  return spawnSync(command, args, { stdio: "ignore" }).status === 0;
}

function isThere(program) {
  const folders = [...(process.env.PATH ?? "").split(":"), "/usr/local/sbin", "/usr/sbin", "/sbin"];
  if (!folders.some((folder) => folder !== "" && existsSync(join(folder, program)))) return false;
  // The static busybox crashes when it resolves a name.
  return program !== "busybox" || isDynamic("busybox");
}

function isDynamic(program) {
  const path = spawnSync("sh", ["-c", `command -v ${program}`], { encoding: "utf8" }).stdout.trim();
  return succeeds("ldd", path);
}

function checkMachine() {
  if (process.platform !== "linux")
    throw new Lack(`tsswarm runs on Linux only, this is ${process.platform}`);
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major < nodeMinimum[0] || (major === nodeMinimum[0] && minor < nodeMinimum[1]))
    throw new Lack(
      `tsswarm needs Node ${nodeMinimum.join(".")} or newer, this is ${process.version}`,
    );
  if (process.getuid() !== 0)
    throw new Lack("this has to be run as root: it makes network namespaces and containers");
}

function missingPrograms() {
  return Object.entries(programs).filter(([program]) => !isThere(program));
}

/** Debian and what is made of it; other systems have an apt of their own, with other packages. */
function isDebian() {
  const path = "/etc/os-release";
  const lines = existsSync(path) ? readFileSync(path, "utf8") : "";
  return isThere("apt-get") && /^ID(_LIKE)?=.*\bdebian\b/m.test(lines);
}

function installPrograms() {
  const missing = missingPrograms();
  if (missing.length === 0) return;
  if (!isDebian())
    throw new Lack(
      `these programs are needed and can be installed by this command only with Debian's apt: ${missing.map(([program]) => program).join(", ")}`,
    );
  const packages = [...new Set(missing.map(([, name]) => name))];
  say(`installing ${packages.join(", ")}`);
  const environment = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  run("apt-get update failed", "apt-get", ["-q", "update"], { env: environment });
  withoutStartingServices(() =>
    run(
      `apt-get could not install ${packages.join(", ")} (does it reach its mirror?)`,
      "apt-get",
      ["-q", "-y", "--no-install-recommends", "install", ...packages],
      { env: environment },
    ),
  );
  const still = missing.filter(([program]) => !isThere(program)).map(([program]) => program);
  if (still.length > 0)
    throw new Lack(`these programs are needed and were not found: ${still.join(", ")}`);
}

/** Debian starts a service when its package is installed, unless this file forbids it. */
function withoutStartingServices(install) {
  if (existsSync(policyFile)) return install();
  const remove = () => rmSync(policyFile, { force: true });
  const interrupted = () => {
    remove();
    process.exit(1);
  };
  writeFileSync(policyFile, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  process.once("SIGINT", interrupted).once("SIGTERM", interrupted);
  try {
    return install();
  } finally {
    process.off("SIGINT", interrupted).off("SIGTERM", interrupted);
    remove();
  }
}

/**
 * Tries what the kernel has to be able to do, in namespaces that are gone afterwards. What needs a program that is not
 * installed yet is left out: the check is made before the installation, so that nothing is half done, and after it.
 */
function checkKernel() {
  const inNamespace = (script) =>
    succeeds("unshare", "--net", "--mount", "--pid", "--uts", "--fork", "sh", "-ec", script);
  if (!inNamespace("true"))
    throw new Lack(
      "this kernel, or the container this runs in, does not allow making network, mount and PID namespaces",
    );
  if (isThere("ip")) checkDevices(inNamespace);
  if (isThere("nft")) checkRules(inNamespace);
  const folder = mkdtempSync("/var/lib/tsswarm-setup-");
  try {
    const overlay = `cd ${folder} && mkdir l u w m && mount -t overlay -o lowerdir=l,upperdir=u,workdir=w overlay m`;
    if (!inNamespace(overlay)) throw new Lack("this kernel cannot mount overlayfs in /var/lib");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function checkDevices(inNamespace) {
  const veth =
    "ip link add name veth0 type veth peer name veth1 && ip link add name br0 type bridge";
  if (!inNamespace(veth)) throw new Lack("this kernel has no veth or bridge devices");
  const vxlan =
    "ip link set lo up && ip link add name vxlan0 type vxlan id 4096 dstport 4789 dev lo";
  if (!inNamespace(vxlan)) throw new Lack("this kernel has no VXLAN devices");
}

/** Coarser than what the daemon tries when it starts, but before anything is built. */
function checkRules(inNamespace) {
  const features = {
    "address translation":
      "type nat hook prerouting priority -100; ip saddr 10.0.0.1 dnat to 10.0.0.2",
    numgen:
      "type nat hook prerouting priority -100; dnat to numgen random mod 2 map { 0 : 10.0.0.1, 1 : 10.0.0.2 }",
    fib: "type nat hook prerouting priority -100; fib daddr type local accept",
    "connection tracking": "type filter hook prerouting priority -300; ct mark set 1",
    reject: "type filter hook input priority 0; ip protocol tcp reject with tcp reset",
  };
  for (const [feature, chain] of Object.entries(features))
    if (!inNamespace(`nft 'table ip t { chain c { ${chain}; }; }'`))
      throw new Lack(`this kernel's nftables lacks ${feature}`);
}

/** Whether node_modules holds what the lock file says. */
function areModulesCurrent() {
  const read = (path) => JSON.parse(readFileSync(join(root, path), "utf8")).packages;
  try {
    const installed = read("node_modules/.package-lock.json");
    return Object.entries(read("package-lock.json")).every(
      ([path, wanted]) =>
        path === "" || wanted.optional === true || installed[path]?.version === wanted.version,
    );
  } catch {
    return false;
  }
}

function installModules() {
  if (areModulesCurrent()) return;
  say("installing npm packages");
  run(
    "npm ci failed (does it reach its registry?)",
    "npm",
    ["ci", "--no-audit", "--no-fund", "--loglevel=error"],
    { cwd: root },
  );
}

try {
  checkMachine();
  checkKernel();
  if (missingPrograms().length > 0) {
    installPrograms();
    checkKernel();
  }
  installModules();
  say("building");
  run("the build failed", "npm", ["run", "-s", "build"], { cwd: root });
} catch (error) {
  console.error(error instanceof Lack ? `setup: ${error.message}` : error);
  process.exitCode = 1;
}
