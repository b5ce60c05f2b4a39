// What a deploy does for a file where another file is deployed already.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Body } from "../../../../cli/body.ts";
import { imagesAsked, type PlanOptions, planOf } from "../../../../cli/stack/plan.ts";
import { planText } from "../../../../cli/stack/say.ts";
import type { Had, Step } from "../../../../cli/stack/steps.ts";
import type { Wanted } from "../../../../cli/stack/wanted.ts";
import type { Service, ServiceSpec } from "../../../../proto/gen/types.ts";
import { wanted as wantedOf } from "./kit.ts";

const nothing: Had = { networks: [], files: [], services: [] };
const plain: PlanOptions = { prune: false, resolveImage: "never", images: new Map() };

function wanted(yaml: string, environment: Readonly<Record<string, string>> = {}): Wanted {
  return wantedOf({ files: { "compose.yaml": yaml }, environment });
}

/** The cluster after a deploy, as it tells of itself: ids for names, defaults written. */
function deployed(stack: Wanted, before: Had = nothing): Had {
  const networks = stack.networks.map(({ name, body }) => ({
    id: `id-${name}`,
    name,
    labels: body["Labels"] as Record<string, string>,
    body: { ...body, Scope: "swarm", EnableIPv4: true },
  }));
  const files = stack.files.map(({ kind, name, labels, data }) => ({
    kind,
    id: `id-${name}`,
    name,
    version: 7,
    labels,
    spec: { Data: data },
  }));
  const services = stack.services.map(({ name, spec }): Body<Service> => {
    const old = before.services.find((each) => each.Spec?.Name === name)?.Spec;
    return { ID: `id-${name}`, Version: { Index: 42 }, Spec: kept(spec), PreviousSpec: old };
  });
  const missing = <T extends { readonly name: string }>(from: readonly T[], now: readonly T[]) =>
    from.filter((each) => !now.some(({ name }) => name === each.name));
  return {
    networks: [...missing(before.networks, networks), ...networks],
    files: [...missing(before.files, files), ...files],
    services,
  };
}

function kept(spec: Body<ServiceSpec>): Body<ServiceSpec> {
  const task = spec.TaskTemplate;
  const container = task?.ContainerSpec;
  return {
    ...spec,
    Mode:
      spec.Mode?.Replicated === undefined
        ? spec.Mode
        : { Replicated: { Replicas: 1, ...spec.Mode.Replicated } },
    EndpointSpec: { Mode: "vip", ...spec.EndpointSpec },
    TaskTemplate: {
      ...task,
      ForceUpdate: 3,
      Networks: (task?.Networks ?? [])
        .map((each) => ({ ...each, Target: `id-${each.Target}` }))
        .reverse(),
      ContainerSpec: {
        ...container,
        Isolation: "default",
        Secrets: container?.Secrets?.map((each) => ({
          ...each,
          SecretID: `id-${each.SecretName}`,
        })),
        Configs: container?.Configs?.map((each) => ({
          ...each,
          ConfigID: `id-${each.ConfigName}`,
        })),
      },
    },
  };
}

const base = `
services:
  web: {image: 'i:1', networks: [a, b], configs: [c], ports: ['80:80'], environment: {A: 1}}
  db: {image: 'd:1', secrets: [s]}
networks: {a: {}, b: {}}
configs: {c: {content: one}}
secrets: {s: {environment: S}}
`;
const S = { S: "geheim" };

test("a first deploy creates networks, secrets and configs, then services", () => {
  const plan = planOf(wanted(base, S), nothing, plain);
  assert.equal(
    planText(plan),
    [
      ...["+ network st_a", "+ network st_b", "+ network st_default"],
      ...["+ secret st_s_HASH", "+ config st_c_HASH", "+ service st_db", "+ service st_web", ""],
    ]
      .join("\n")
      .replace("st_s_HASH", wanted(base, S).files[0]?.name ?? "")
      .replace("st_c_HASH", wanted(base, S).files[1]?.name ?? ""),
  );
});

test("deployed again, nothing is changed, however the cluster writes it", () => {
  const stack = wanted(base, S);
  const plan = planOf(stack, deployed(stack), plain);
  assert.equal(planText(plan), "");
  assert.deepEqual(
    plan.services.map((step) => step.do),
    ["leave-service", "leave-service"],
  );
  assert.deepEqual(plan.notes, []);
});

test("a service that has been scaled by itself is left as it is", () => {
  const stack = wanted(
    "services: {a: {image: x, deploy: {replicas: 2, x-tsswarm: {autoscale: 'max=9,cpu=70'}}}}",
  );
  const had = deployed(stack);
  const services = had.services.map((each) => ({
    ...each,
    Spec: { ...each.Spec, Mode: { Replicated: { Replicas: 7 } } },
  }));
  assert.equal(planText(planOf(stack, { ...had, services }, plain)), "");
});

const changes: readonly {
  readonly name: string;
  readonly from: string;
  readonly to: string;
  readonly prune?: boolean;
  readonly says: readonly (string | RegExp)[];
}[] = [
  {
    name: "a changed word",
    from: "services: {a: {image: x}, b: {image: x}}",
    to: "services: {a: {image: x, hostname: h}, b: {image: x}}",
    says: ["~ service st_a", "    + TaskTemplate.ContainerSpec.Hostname: h"],
  },
  {
    name: "fewer words",
    from: "services: {a: {image: x, tty: true, healthcheck: {test: t, interval: 90s}}}",
    to: "services: {a: {image: x}}",
    says: [
      "~ service st_a",
      "    - TaskTemplate.ContainerSpec.Healthcheck.Interval: 1m30s",
      '    - TaskTemplate.ContainerSpec.Healthcheck.Test: ["CMD-SHELL","t"]',
      "    - TaskTemplate.ContainerSpec.TTY: true",
    ],
  },
  {
    name: "variables and ports one by one",
    from: "services: {a: {image: x, environment: {A: 1, B: 2}, ports: ['1:1']}}",
    to: "services: {a: {image: x, environment: {A: 1, B: 3}, ports: ['1:1', '2:2']}}",
    says: [
      "~ service st_a",
      '    + EndpointSpec.Ports[]: {"PublishedPort":2,"TargetPort":2}',
      "    - TaskTemplate.ContainerSpec.Env[]: B=2",
      "    + TaskTemplate.ContainerSpec.Env[]: B=3",
    ],
  },
  {
    name: "the order of a command",
    from: "services: {a: {image: x, command: [a, b]}}",
    to: "services: {a: {image: x, command: [b, a]}}",
    says: [
      "~ service st_a",
      '    - TaskTemplate.ContainerSpec.Args: ["a","b"]',
      '    + TaskTemplate.ContainerSpec.Args: ["b","a"]',
    ],
  },
  {
    name: "replicas and mode",
    from: "services: {a: {image: x, deploy: {replicas: 2}}, b: {image: x}}",
    to: "services: {a: {image: x, deploy: {replicas: 0}}, b: {image: x, deploy: {mode: global}}}",
    says: [
      "~ service st_a",
      "    - Mode.Replicated.Replicas: 2",
      "    + Mode.Replicated.Replicas: 0",
      "~ service st_b",
      '    - Mode: {"Replicated":{}}',
      '    + Mode: {"Global":{}}',
    ],
  },
  {
    name: "defaults that are said at last",
    from: "services: {a: {image: x}}",
    to: "services: {a: {image: x, ports: [], restart: always, deploy: {replicas: 1, endpoint_mode: vip}}}",
    says: [],
  },
  {
    name: "policies that come",
    from: "services: {a: {image: x}}",
    to: "services: {a: {image: x, deploy: {x-tsswarm: {rebalance: true, autoscale: 'max=9,cpu=70'}}}}",
    says: [
      "~ service st_a",
      "    + Autoscale.CPU: 70",
      "    + Autoscale.Max: 9",
      "    + Autoscale.Min: 1",
      "    + Rebalance.Enabled: true",
    ],
  },
  {
    name: "policies that go",
    from: "services: {a: {image: x, deploy: {mode: replicated-job, x-tsswarm: {schedule: '@daily', restart_max_delay: 2m}}}}",
    to: "services: {a: {image: x, deploy: {mode: replicated-job}}}",
    says: [
      "~ service st_a",
      "    - Schedule.Cron: @daily",
      "    - TaskTemplate.RestartPolicy.MaxDelay: 2m0s",
      "    + TaskTemplate.RestartPolicy.MaxDelay: 1m0s",
    ],
  },
  {
    name: "a network more",
    from: "services: {a: {image: x}}",
    to: "services: {a: {image: x, networks: [default, n]}}\nnetworks: {n: }",
    says: ["+ network st_n", "~ service st_a", /\+ TaskTemplate\.Networks\[\]: .*"Target":"st_n"/],
  },
  {
    name: "a service no more named is left without --prune",
    from: "services: {a: {image: x}, b: {image: x}}",
    to: "services: {a: {image: x}}",
    says: [],
  },
  {
    name: "and removed with it, its network and secret too",
    from: "services: {a: {image: x}, b: {image: x, networks: [n], secrets: [s]}}\nnetworks: {n: }\nsecrets: {s: {environment: S, name: own}}",
    to: "services: {a: {image: x}}",
    prune: true,
    says: ["- service st_b", "- secret own", "- network st_n"],
  },
  {
    name: "a named secret with another content is rotated under its name",
    from: "services: {a: {image: x, secrets: [s]}}\nsecrets: {s: {content: one, name: own}}",
    to: "services: {a: {image: x, secrets: [s]}}\nsecrets: {s: {content: two, name: own}}",
    says: [
      "~ secret own: its content",
      "~ service st_a",
      /- .*Secrets\[\].*"SecretID":"id-own"/,
      /\+ .*Secrets\[\].*"SecretName":"own"/,
    ],
  },
  {
    name: "labels of a config",
    from: "services: {a: {image: x}}\nconfigs: {c: {content: one}}",
    to: "services: {a: {image: x}}\nconfigs: {c: {content: one, labels: {k: v}}}",
    says: [/^~ config st_c_[0-9a-f]{12}: its labels$/],
  },
  {
    name: "privileges that are taken away",
    from: "services: {a: {image: x, privileged: true, devices: ['/dev/null:/dev/x']}}",
    to: "services: {a: {image: x}}",
    says: [
      "~ service st_a",
      /- TaskTemplate\.ContainerSpec\.HostConfig\.Devices/,
      /- TaskTemplate\.ContainerSpec\.HostConfig\.Privileged: true/,
    ],
  },
];

for (const { name, from, to, prune = false, says } of changes)
  test(`shown as a difference: ${name}`, () => {
    const plan = planOf(wanted(to, S), deployed(wanted(from, S)), { ...plain, prune });
    const lines = planText(plan).split("\n").slice(0, -1);
    assert.equal(lines.length, says.length, lines.join("\n"));
    for (const [i, line] of lines.entries()) {
      const expected = says[i] ?? "";
      if (typeof expected === "string") assert.equal(line, expected);
      else assert.match(line, expected);
    }
  });

test("another content is another config, and the old one goes when nobody runs it or may go back to it", () => {
  const yaml = (text: string) =>
    `services: {a: {image: x, configs: [c]}}\nconfigs: {c: {content: ${text}}}`;
  const [one, two, three] = ["one", "two", "three"].map((text) => wanted(yaml(text)));
  assert.ok(one && two && three);
  const names = [one, two, three].map((each) => each.files[0]?.name ?? "");
  assert.equal(new Set(names).size, 3);
  const first = planOf(two, deployed(one), plain);
  assert.deepEqual(
    first.before.map((step) => `${step.do} ${step.name}`),
    [`create-file ${names[1]}`],
  );
  assert.deepEqual(
    first.services.map((step) => step.do),
    ["update-service"],
  );
  assert.deepEqual(first.after, []);
  const second = planOf(three, deployed(two, deployed(one)), plain);
  assert.deepEqual(
    second.after.map((step) => `${step.do} ${step.name}`),
    [`remove-file ${names[0]}`],
  );
  const same = planOf(two, deployed(two, deployed(one)), plain);
  assert.deepEqual(same.after, []);
});

function order(steps: readonly Step[]): readonly string[] {
  return steps.map(
    (step) => `${step.do} ${step.name}${step.do === "wait" ? ` ${step.condition}` : ""}`,
  );
}

const dependent = (tag: string) => `
services:
  app: {image: 'x:${tag}', depends_on: {db: {condition: service_healthy}, migrate: {condition: service_completed_successfully}}}
  db: {image: x}
  migrate: {image: x, depends_on: {db: {condition: service_healthy}}}
  worker: {image: x, depends_on: [app]}
`;

test("services come after those they depend on, and after the condition is met", () => {
  const plan = planOf(wanted(dependent("1")), nothing, plain);
  assert.deepEqual(order(plan.services), [
    "create-service st_db",
    "wait st_db service_healthy",
    "create-service st_migrate",
    "wait st_migrate service_completed_successfully",
    "create-service st_app",
    "create-service st_worker",
  ]);
  const [, , migrate] = plan.services;
  assert.ok(migrate?.do === "create-service");
  assert.deepEqual(migrate.spec.Mode, { ReplicatedJob: {} });
  assert.deepEqual(migrate.spec.TaskTemplate?.RestartPolicy, { Condition: "none" });
});

test("only what is written waits for what it depends on", () => {
  const had = deployed(wanted(dependent("1")));
  const waits = (yaml: string) =>
    order(planOf(wanted(yaml), had, plain).services).filter((line) => !line.startsWith("leave"));
  assert.deepEqual(waits(dependent("1")), []);
  assert.deepEqual(waits(dependent("2")), [
    "wait st_db service_healthy",
    "wait st_migrate service_completed_successfully",
    "update-service st_app",
  ]);
});

test("services that depend on one another in a circle are named", () => {
  const yaml =
    "services: {a: {image: x, depends_on: [b]}, b: {image: x, depends_on: [c]}, c: {image: x, depends_on: [a]}}";
  assert.throws(() => wanted(yaml), /in a circle: a → b → c → a/);
});

const digest = `sha256:${"a".repeat(64)}`;
const images = new Map([
  ["x:1", { image: `x:1@${digest}`, platforms: [{ OS: "linux", Architecture: "amd64" }] }],
]);

test("images are asked for as --resolve-image says, and an image of the same name keeps its digest", () => {
  const stack = wanted("services: {a: {image: 'x:1'}, b: {image: 'y@sha256:0'}}");
  const had = deployed(stack);
  assert.deepEqual(imagesAsked(stack, had, "always"), ["x:1"]);
  assert.deepEqual(imagesAsked(stack, had, "changed"), []);
  assert.deepEqual(imagesAsked(stack, nothing, "changed"), ["x:1"]);
  assert.deepEqual(imagesAsked(stack, nothing, "never"), []);
  const image = (resolveImage: PlanOptions["resolveImage"], from: Had) => {
    const step = planOf(stack, from, { ...plain, resolveImage, images }).services[0];
    return step !== undefined && "spec" in step
      ? step.spec.TaskTemplate?.ContainerSpec?.Image
      : step?.do;
  };
  assert.equal(image("always", had), `x:1@${digest}`);
  assert.equal(image("changed", had), "leave-service");
  assert.equal(image("changed", nothing), `x:1@${digest}`);
  assert.equal(image("never", nothing), "x:1");
});

test("an update keeps how often it was forced, and names the version it saw", () => {
  const plan = planOf(
    wanted("services: {a: {image: y}}"),
    deployed(wanted("services: {a: {image: x}}")),
    plain,
  );
  const [step] = plan.services;
  assert.ok(step?.do === "update-service");
  assert.equal(step.version, 42);
  assert.equal(step.spec.TaskTemplate?.ForceUpdate, 3);
});

test("what a file declares as external must be there", () => {
  const yaml =
    "services: {a: {image: x, networks: [n], secrets: [s]}}\nnetworks: {n: {external: true, name: out}}\nsecrets: {s: {external: true}}";
  const network = { id: "1", name: "out", labels: {}, body: { Scope: "swarm" } };
  const secret = { kind: "secret" as const, id: "2", name: "s", version: 1, labels: {}, spec: {} };
  const steps = (had: Had) => order(planOf(wanted(yaml), had, plain).services);
  assert.throws(
    () => steps(nothing),
    /network "out" is declared as external, but could not be found/,
  );
  assert.throws(
    () => steps({ ...nothing, networks: [{ ...network, body: { Scope: "local" } }] }),
    /not in the right scope: "local"/,
  );
  assert.throws(
    () => steps({ ...nothing, networks: [network] }),
    /secret "s" is declared as external, but could not be found/,
  );
  const all = { ...nothing, networks: [network], files: [secret] };
  assert.deepEqual(steps(all), ["create-service st_a"]);
  assert.deepEqual(planOf(wanted(yaml), all, plain).before, []);
});

test("a secret of another stack, or of nobody, is not taken", () => {
  const yaml = "services: {a: {image: x}}\nsecrets: {s: {content: x, name: own}}";
  const secret = { kind: "secret" as const, id: "2", name: "own", version: 1, spec: {} };
  const plan = (labels: Record<string, string>) =>
    planOf(wanted(yaml), { ...nothing, files: [{ ...secret, labels }] }, plain);
  assert.throws(
    () => plan({}),
    /secret "own" is there already and is of no stack: declare it as external/,
  );
  assert.throws(
    () => plan({ "com.docker.stack.namespace": "x" }),
    /secret "own" is of the stack "x"/,
  );
});

test("a network that differs is left, and said", () => {
  const yaml = (more: string) => `services: {a: {image: x}}\nnetworks: {default: {${more}}}`;
  const plan = planOf(
    wanted(yaml("internal: true, driver_opts: {mtu: 1400}")),
    deployed(wanted(yaml(""))),
    plain,
  );
  assert.equal(planText(plan), "");
  assert.deepEqual(plan.notes, [
    "network st_default differs in Internal, Options.mtu: networks are not changed; remove it first, or give the new one another name",
  ]);
});
