// What each command's --help shows at its end: lines that work as they stand, with names of one's own put in.

import type { Command } from "commander";

/** By the words before the operands; "" is the program itself. */
const examples: Readonly<Record<string, readonly string[]>> = {
  "": [
    "swarm init --advertise-addr 192.0.2.10",
    "service create --name web --replicas 3 --publish 8080:80 nginx",
    "service ps web",
    "lab up",
  ],
  "swarm backup": [
    "swarm backup /root/swarm.backup",
    "swarm backup --key-file /root/backup.key /root/swarm.backup",
  ],
  "swarm ca": [
    "swarm ca",
    "swarm ca --rotate",
    "swarm ca --rotate --ca-cert root.pem --ca-key root.key",
  ],
  "swarm init": ["swarm init --advertise-addr 192.0.2.10", "swarm init --advertise-addr eth0"],
  "swarm restore": ["swarm restore --advertise-addr 10.0.0.1 /root/swarm.backup"],
  "swarm join": ["swarm join --token SWMTKN-1-… 192.0.2.10:2377"],
  "swarm leave": ["swarm leave", "swarm leave --force"],
  "swarm join-token": ["swarm join-token worker", "swarm join-token --rotate manager"],
  "swarm unlock": ["swarm unlock"],
  "swarm unlock-key": ["swarm unlock-key", "swarm unlock-key --rotate"],
  "swarm update": ["swarm update --task-history-limit 10", "swarm update --autolock"],
  "node ls": ["node ls", "node ls --filter role=manager"],
  "node inspect": ["node inspect --pretty self"],
  "node ps": ["node ps h2", "node ps --filter desired-state=running self"],
  "node update": ["node update --availability drain h2", "node update --label-add disk=ssd h2"],
  "node promote": ["node promote h2"],
  "node demote": ["node demote h2"],
  "node rm": ["node rm h2"],
  "service create": [
    "service create --name web --replicas 3 -p 8080:80 nginx",
    "service create --name db --network name=back,alias=database --mount source=data,target=/var/lib/data postgres",
    "service create --mode global --constraint node.role==worker busybox sleep 1d",
    "service create --mode replicated-job --replicas 8 --max-concurrent 2 busybox sh -c 'echo once'",
    "service create --name api --limit-cpu 0.5 --autoscale min=2,max=10,cpu=70 nginx",
    "service create --name report --mode replicated-job --schedule '0 6 * * 1-5' --schedule-zone Europe/Berlin busybox date",
  ],
  "service update": [
    "service update --image nginx:1.27 web",
    "service update --env-add LEVEL=debug web",
    "service update --dry-run --image nginx:1.27 web",
    "service update --rebalance web",
  ],
  "service scale": ["service scale web=6 worker=2"],
  "service rollback": ["service rollback web"],
  "service explain": ["service explain web"],
  "service rm": ["service rm web"],
  "service ls": ["service ls", "service ls --filter name=web --format '{{.Name}} {{.Replicas}}'"],
  "service ps": ["service ps web", "service ps --no-trunc --filter desired-state=running web"],
  "service inspect": ["service inspect --pretty web"],
  "service exec": [
    "service exec -it web.1 sh",
    "service exec web.2 cat /etc/hosts",
    "service exec -u root j8qkxrl3o9zv2n7b5mdt4wq6e ps",
  ],
  "service top": ["service top web", "service top web.1 -o pid,args"],
  "service stats": ["service stats web", "service stats web.1"],
  "service logs": ["service logs -f --tail 20 web"],
  "secret create": [
    "secret create db-password ./password.txt",
    "secret create db-password - < ./password.txt",
  ],
  "secret rotate": [
    "secret rotate db-password ./new-password.txt",
    "secret rotate --detach db-password -",
  ],
  "secret ls": ["secret ls", "secret ls --filter label=tier=db"],
  "secret inspect": ["secret inspect --pretty db-password"],
  "secret rm": ["secret rm db-password"],
  "config create": [
    "config create nginx.conf ./nginx.conf",
    "config create --template-driver golang app.conf ./app.conf",
  ],
  "config rotate": ["config rotate nginx.conf ./nginx.conf"],
  "config ls": ["config ls --filter name=nginx"],
  "config inspect": ["config inspect --pretty nginx.conf"],
  "config rm": ["config rm nginx.conf"],
  "stack deploy": [
    "stack deploy -c compose.yaml shop",
    "stack deploy -c compose.yaml -c production.yaml --prune --detach=false shop",
    "stack deploy -c - shop < compose.yaml",
  ],
  "stack diff": ["stack diff -c compose.yaml shop"],
  "stack config": ["stack config -c compose.yaml -c production.yaml"],
  "stack ls": ["stack ls"],
  "stack services": ["stack services shop"],
  "stack ps": ["stack ps --filter desired-state=running shop"],
  "stack rm": ["stack rm shop", "stack rm --detach=false shop"],
  "network create": [
    "network create -d overlay front",
    "network create -d overlay --subnet 10.20.0.0/16 back",
    "network create -d macvlan -o parent=eth0.10 --subnet 192.0.2.0/24 --gateway 192.0.2.1 --ip-range 192.0.2.128/26 lan",
  ],
  "network ls": ["network ls --filter driver=overlay"],
  "network inspect": ["network inspect front"],
  "network rm": ["network rm front"],
  run: [
    "run --rm -it debian bash",
    "run -d --name web -p 8080:80 -v data:/var/lib/data --restart unless-stopped nginx",
  ],
  create: ["create --name db -v data:/var/lib/data postgres"],
  start: ["start web"],
  stop: ["stop -t 30 web"],
  restart: ["restart web"],
  kill: ["kill -s HUP web"],
  rm: ["rm -f -v web"],
  attach: ["attach web"],
  wait: ["wait web"],
  pause: ["pause web"],
  unpause: ["unpause web"],
  rename: ["rename web web-old"],
  cp: ["cp web:/etc/nginx/nginx.conf .", "cp ./site web:/usr/share/nginx/html"],
  top: ["top web", "top web -o pid,comm"],
  port: ["port web", "port web 80/tcp"],
  stats: ["stats", "stats web"],
  update: ["update --memory 512m --cpus 2 web", "update --restart unless-stopped web"],
  diff: ["diff web"],
  export: ["export -o web.tar web"],
  commit: ["commit -m 'set up' -c 'CMD [\"run\"]' web registry.lab:5000/web:2"],
  build: [
    "build -t registry.lab:5000/web:1 .",
    "build --target test --build-arg VERSION=2 --secret id=token,src=token.txt .",
  ],
  push: ["push registry.lab:5000/web:1", "push --all-tags registry.lab:5000/web"],
  tag: ["tag web:1 registry.lab:5000/web:1"],
  rmi: ["rmi web:1"],
  save: ["save -o web.tar web:1"],
  load: ["load -i web.tar"],
  import: ["import rootfs.tar.gz base:1"],
  history: ["history web:1"],
  "image prune": ["image prune -a --filter until=24h"],
  "container prune": ["container prune -f"],
  search: ["search --limit 10 busybox", "search --filter stars=100 nginx"],
  "plugin ls": ["plugin ls", "plugin ls --filter enabled=true"],
  "plugin inspect": ["plugin inspect vieux/sshfs"],
  "plugin enable": ["plugin enable vieux/sshfs"],
  "plugin disable": ["plugin disable --force vieux/sshfs"],
  "plugin set": ["plugin set vieux/sshfs DEBUG=1"],
  "plugin install": ["plugin install --grant-all-permissions vieux/sshfs DEBUG=1"],
  "plugin upgrade": ["plugin upgrade vieux/sshfs vieux/sshfs:next"],
  "plugin push": ["plugin push registry.example:5000/vols:1"],
  "plugin create": ["plugin create me/vols ./vols"],
  "plugin rm": ["plugin rm --force vieux/sshfs"],
  "volume create": [
    "volume create data",
    "volume create -o type=nfs -o o=addr=192.0.2.5,rw -o device=:/export data",
  ],
  "volume ls": ["volume ls --filter dangling=true"],
  "volume rm": ["volume rm data"],
  "volume inspect": ["volume inspect data"],
  "volume prune": ["volume prune -a"],
  "volume backup": ["volume backup data data.tar"],
  "volume restore": ["volume restore data data.tar"],
  "system df": ["system df", "system df -v"],
  "system prune": ["system prune --volumes"],
  "system report": ["system report -o report.tar"],
  "builder prune": ["builder prune -f"],
  events: [
    "events --since 10m --filter type=container",
    "events --filter scope=swarm --format '{{.cursor}} {{.Type}} {{.Action}} {{.Actor.ID}}'",
    "events --cursor 1042.3",
  ],
  ps: ["ps", "ps -a --filter label=com.docker.swarm.service.name=web"],
  inspect: ["inspect --format '{{.State.Pid}}' web.1.0ujf8b2m…"],
  logs: ["logs -f web.1.0ujf8b2m…"],
  exec: ["exec -it web.1.0ujf8b2m… sh"],
  pull: ["pull nginx:1.27"],
  images: ["images"],
  version: ["version --format '{{.Server.Version}}'"],
  info: ["info --format '{{.Swarm.LocalNodeState}}'"],
  doctor: ["doctor", "doctor --repair"],
  login: [
    "login registry.example",
    "login -u ada --password-stdin registry.example <password-file",
  ],
  logout: ["logout registry.example"],
  "context create": [
    "context create far --docker host=ssh://root@192.0.2.10",
    "context create far --docker host=tcp://192.0.2.10:2376,ca=ca.pem,cert=cert.pem,key=key.pem",
  ],
  "context update": ["context update --description 'in Ulm' far"],
  "context export": ["context export far far.tar"],
  "context import": ["context import far far.tar"],
  "context ls": ["context ls"],
  "context use": ["context use far", "context use default"],
  "context show": ["context show"],
  "context inspect": ["context inspect far"],
  "context rm": ["context rm far"],
  daemon: ["daemon", "daemon --config-file /etc/tsswarm/daemon.json --log-level debug"],
};

/** The completion's only example is no command of ours alone. */
const completionExample = 'eval "$(tsswarm completion bash)"';

export function addExamples(program: Command): void {
  addBelow(program, []);
}

function addBelow(command: Command, path: readonly string[]): void {
  const lines = examplesOf(path.join(" "));
  if (lines.length > 0)
    command.addHelpText(
      "after",
      `\nExample${lines.length > 1 ? "s" : ""}:\n${lines.map((line) => `  ${line}`).join("\n")}`,
    );
  for (const each of command.commands) addBelow(each, [...path, each.name()]);
}

function examplesOf(path: string): readonly string[] {
  if (path === "completion") return [completionExample];
  const known = examples[path];
  if (known !== undefined) return known.map((line) => `tsswarm ${line}`);
  // `container run` is `run`, `image rm` is rmi.
  const [group = "", verb = ""] = path.split(" ");
  const long: Readonly<Record<string, string>> = {
    ...{ "container ls": "ps", "image ls": "images", "image rm": "rmi" },
  };
  const short = long[path] ?? verb;
  if (!["container", "image", "system"].includes(group)) return [];
  return (examples[short] ?? []).map((line) => `tsswarm ${line}`);
}
