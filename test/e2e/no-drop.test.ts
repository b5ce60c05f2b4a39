// Constant load through the virtual address, the tasks' own addresses and the published ports while a service with health
// checks is updated, drained and scaled down: no request fails. A port in host mode is a host's own: while no task is there its
// connections are refused at once, and whoever asks the next host then is answered.
// Longer: TSSWARM_UPDATES=100 TSSWARM_DRAINS=20 TSSWARM_SCALE_DOWNS=20.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { machine } from "../../deploy/lab/names.ts";
import {
  api,
  docker,
  type Load,
  removeNetwork,
  runningTasks,
  setting,
  startLoad,
  until,
  untilRunning,
  withLab,
} from "./harness.ts";

const hosts = ["h1", "h2", "h3"] as const;
const manager = "h1";
const updates = setting("TSSWARM_UPDATES", 2);
const drains = setting("TSSWARM_DRAINS", 1);
const scaleDowns = setting("TSSWARM_SCALE_DOWNS", 1);
const stepMsMax = 180_000;
const replicas = 3;
const port = 8094;
const hostPort = 8095;

/**
 * Takes connections at once and answers with an error for its first half second: only who waits for its health check gets good
 * answers. A request takes a twentieth of a second, and whoever tells it to stop breaks those under way.
 */
const server = `use Socket; use POSIX (); $| = 1; $SIG{CHLD} = "IGNORE";
  my $now = sub { (POSIX::times())[0] / 100 }; my $start = $now->();
  socket(my $l, PF_INET, SOCK_STREAM, 6) or die; setsockopt($l, SOL_SOCKET, SO_REUSEADDR, pack("l", 1));
  bind($l, sockaddr_in(80, INADDR_ANY)) or die; listen($l, 512) or die;
  $SIG{TERM} = sub { exit 0 };
  while (1) {
    accept(my $c, $l) or next;
    next if fork;
    $SIG{TERM} = "DEFAULT";
    my $in = ""; while (index($in, "\\r\\n\\r\\n") < 0) { sysread($c, $in, 4096, length $in) or exit }
    select(undef, undef, undef, 0.05);
    my $status = $now->() - $start < 0.5 ? "503 not ready" : "200 OK";
    syswrite($c, "HTTP/1.1 $status\\r\\nContent-Length: 3\\r\\nConnection: close\\r\\n\\r\\nok\\n"); shutdown($c, 1);
    sysread($c, $in, 1); exit;
  }`;

/** A new connection to the name for each request; a line for each that fails, and for every twentieth that does not. */
const caller = (name: string) => `use Socket; $| = 1; my $n = 0; my $ready = 0;
  while (1) {
    my $why = eval { local $SIG{ALRM} = sub { die "no answer within 20 s\\n" }; alarm 20;
      my $address = inet_aton("${name}") or die "no address\\n";
      socket(my $s, PF_INET, SOCK_STREAM, 6) or die "socket: $!\\n";
      connect($s, sockaddr_in(80, $address)) or die "connect: $!\\n";
      syswrite($s, "GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n") or die "write: $!\\n";
      my $in = ""; while (1) { my $k = sysread($s, $in, 4096, length $in); defined $k or die "read: $!\\n"; last if $k == 0 }
      $in =~ /^HTTP\\/1.1 200/ or die "answer: " . substr($in, 0, 30) . "\\n"; "" } // $@; alarm 0;
    chomp $why; $ready ||= $why eq "";
    if ($why eq "") { $n++; print "answered $n\\n" if $n % 20 == 0 } elsif ($ready) { print "failed after $n: $why\\n" }
    select(undef, undef, undef, 0.03);
  }`;

const services = ["drop-web", "drop-round"] as const;
const onNetwork = ["--network", "drop"] as const;
/** On no network of the swarm. One host at least is left for a task of its that has to go. */
const onHosts = "drop-host";
const onHostsReplicas = hosts.length - 1;
let takeDown = async () => {};
const loads: Load[] = [];
/** What the callers said of requests that failed. */
const failed = new Set<string>();

before(async () => {
  takeDown = await withLab();
  await docker(manager, "network", "create", "--driver", "overlay", "drop");
  await Promise.all([
    createServer(
      "drop-web",
      ...onNetwork,
      "--publish",
      `${port}:80`,
      "--publish",
      `mode=host,target=80`,
    ),
    createServer("drop-round", ...onNetwork, "--endpoint-mode", "dnsrr"),
    createServer(onHosts, "--publish", `mode=host,published=${hostPort},target=80`),
  ]);
  await scale(0);
  const common = ["service", "create", "--detach", "--mode", "global", ...onNetwork];
  const image = "registry.lab:5000/whoami";
  for (const name of services)
    await docker(
      manager,
      ...[...common, "--name", `${name}-caller`, image, "perl", "-e", caller(name)],
    );
  for (const name of services) {
    await untilRunning(manager, name, replicas, stepMsMax);
    await untilRunning(manager, `${name}-caller`, hosts.length, stepMsMax);
  }
  await until("the callers are not answered", stepMsMax, async () => {
    const said = await hearCallers();
    return said.every((log) => log.includes("answered 20")) ? true : undefined;
  });
  const urls = (port: number) => hosts.map((host) => `http://${machine(host).address}:${port}/`);
  loads.push(startLoad(urls(port), 20), startLoad(urls(hostPort), 20, true));
});

after(async () => {
  for (const load of loads) await load.stop();
  for (const host of hosts) await docker(manager, "node", "update", "--availability=active", host);
  const names = services.flatMap((name) => [name, `${name}-caller`]);
  await docker(manager, "service", "rm", onHosts, ...names);
  await removeNetwork(manager, "drop", stepMsMax);
  await takeDown();
});

async function createServer(name: string, ...more: readonly string[]): Promise<void> {
  const health =
    "perl -MSocket -e 'socket(S, PF_INET, SOCK_STREAM, 6); connect(S, sockaddr_in(80, INADDR_LOOPBACK)) or exit 1;" +
    ' syswrite(S, "GET / HTTP/1.1\\r\\n\\r\\n"); sysread(S, $_, 99); exit !/ 200 /\'';
  const args = [
    ...["service", "create", "--detach", "--name", name, ...more],
    ...["--replicas", `${replicas}`, "--update-monitor", "0s", "--stop-grace-period", "20s"],
    ...["--health-cmd", health, "--health-interval", "5s", "--health-timeout", "20s"],
    ...["--health-start-period", "30s", "--health-start-interval", "200ms"],
    ...["registry.lab:5000/whoami", "perl", "-e", server],
  ];
  await docker(manager, ...args);
}

/** The logs of the callers that run now; what they say of failures is remembered. */
async function hearCallers(): Promise<readonly string[]> {
  const running = await Promise.all(
    services.map((name) => runningTasks(manager, `${name}-caller`)),
  );
  return Promise.all(
    running.flat().map(async ({ node, container }) => {
      const log = await docker(node, "logs", container);
      for (const line of log.split("\n"))
        if (line.startsWith("failed")) failed.add(`${node} ${container.slice(0, 12)} ${line}`);
      return log;
    }),
  );
}

test(`no request fails during ${updates} updates, ${drains} drains and ${scaleDowns} scale-downs`, async (context) => {
  for (let i = 0; i < updates; i++) {
    const order = i % 2 === 0 ? "stop-first" : "start-first";
    await Promise.all([
      ...services.map((name) => update(name, order)),
      // Two cannot have one port of a host.
      update(onHosts, "stop-first"),
    ]);
  }
  for (let i = 0; i < drains; i++) await drain(hosts[(i + 1) % hosts.length] ?? manager);
  for (let i = 0; i < scaleDowns; i++) {
    await scale(3);
    await scale(-1);
    await scale(0);
  }
  for (const [i, name] of ["to the mesh", "to the hosts' own ports"].entries()) {
    const { answered, failures } = (await loads[i]?.stop()) ?? assert.fail("there is no load");
    context.diagnostic(`${answered} requests ${name} were answered`);
    assert.ok(answered > 0);
    assert.deepEqual(failures, [], `of ${answered + failures.length} requests ${name}`);
  }
  await hearCallers();
  assert.deepEqual([...failed], [], "requests to the names");
});

async function update(name: string, order: string): Promise<void> {
  const args = [
    "--force",
    "--detach",
    "--update-order",
    order,
    "--update-failure-action",
    "continue",
  ];
  await docker(manager, "service", "update", ...args, name);
  await until(`the update of ${name} does not end`, stepMsMax, async () => {
    const service = await api(manager).get<{ UpdateStatus?: { State: string } }>(
      `/services/${name}`,
    );
    return service.UpdateStatus?.State === "completed" ? true : undefined;
  });
}

async function drain(host: string): Promise<void> {
  await hearCallers();
  await docker(manager, "node", "update", "--availability=drain", host);
  for (const name of services)
    await untilRunning(manager, name, replicas, stepMsMax, ({ node }) => node !== host);
  await untilRunning(manager, onHosts, onHostsReplicas, stepMsMax, ({ node }) => node !== host);
  await docker(manager, "node", "update", "--availability=active", host);
  for (const name of services)
    await untilRunning(manager, `${name}-caller`, hosts.length, stepMsMax);
}

/** To so many more than usual. */
async function scale(more: number): Promise<void> {
  const counts = new Map<string, number>(services.map((name) => [name, replicas + more]));
  counts.set(onHosts, Math.min(onHostsReplicas + more, hosts.length));
  const words = [...counts].map(([name, count]) => `${name}=${count}`);
  await docker(manager, "service", "scale", "--detach", ...words);
  for (const [name, count] of counts) await untilRunning(manager, name, count, stepMsMax);
}
