// Files over one another, short forms and long ones, what is included and extended.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Given, load, merged, project, services } from "./kit.ts";

/** Two texts of the service `s`, and what the second over the first comes to. */
const overs: readonly {
  readonly name: string;
  readonly under: string;
  readonly over: string;
  readonly is: Readonly<Record<string, unknown>>;
}[] = [
  { name: "a word replaces a word", under: "image: a", over: "image: b", is: { image: "b" } },
  {
    name: "what is not said stays",
    under: "image: a",
    over: "tty: true",
    is: { image: "a", tty: true },
  },
  {
    name: "nothing said of a key leaves it",
    under: "image: a",
    over: "image:",
    is: { image: "a" },
  },
  {
    name: "commands replace one another",
    under: "command: [a, b]",
    over: "command: c d",
    is: { command: ["c", "d"] },
  },
  {
    name: "so do entrypoints",
    under: "entrypoint: a b",
    over: "entrypoint: []",
    is: { entrypoint: [] },
  },
  {
    name: "so do the tests of health, and the rest of it is kept",
    under: "healthcheck: {test: [CMD, a], interval: 5s}",
    over: "healthcheck: {test: b}",
    is: { healthcheck: { test: ["CMD-SHELL", "b"], interval: "5s" } },
  },
  {
    name: "variables are merged by name, as list or map",
    under: "environment: [A=1, B=2]",
    over: "environment: {B: 3, C: true}",
    is: { environment: { A: "1", B: "3", C: "true" } },
  },
  {
    name: "labels too",
    under: "labels: [a, b=1]",
    over: "labels: {a: x}",
    is: { labels: { a: "x", b: "1" } },
  },
  {
    name: "lists are joined, each item once",
    under: "dns: 1.1.1.1",
    over: "dns: [1.1.1.1, 2.2.2.2]",
    is: { dns: ["1.1.1.1", "2.2.2.2"] },
  },
  {
    name: "ports are the same when all of them is",
    under: "ports: ['80:80', '90:90']",
    over: "ports: ['80:80', '80:81']",
    is: {
      ports: [
        { mode: "ingress", target: 80, published: 80, protocol: "tcp" },
        { mode: "ingress", target: 90, published: 90, protocol: "tcp" },
        { mode: "ingress", target: 81, published: 80, protocol: "tcp" },
      ],
    },
  },
  {
    name: "a long port changes the same short one",
    under: "ports: ['80:80']",
    over: "ports: [{target: 80, published: '80', mode: host}]",
    is: { ports: [{ mode: "host", target: 80, published: "80", protocol: "tcp" }] },
  },
  {
    name: "volumes are the same when they are mounted at the same place",
    under: "volumes: ['a:/a', 'b:/b']",
    over: "volumes: ['c:/a:ro']",
    is: {
      volumes: [
        { type: "volume", source: "c", target: "/a", read_only: true },
        { type: "volume", source: "b", target: "/b" },
      ],
    },
  },
  {
    name: "secrets by their place too",
    under: "secrets: [a, {source: b, target: /x}]",
    over: "secrets: [{source: a, mode: 0400}, {source: c, target: /x}]",
    is: {
      secrets: [
        { source: "a", mode: 256 },
        { source: "c", target: "/x" },
      ],
    },
  },
  {
    name: "networks by name, and what is said of them is joined",
    under: "networks: [a, b]",
    over: "networks: {b: {aliases: [x]}, c: }",
    is: { networks: { a: null, b: { aliases: ["x"] }, c: null } },
  },
  {
    name: "dependencies by name",
    under: "depends_on: [a]",
    over: "depends_on: {a: {condition: service_healthy}, b: {condition: service_started, required: false}}",
    is: {
      depends_on: {
        a: { condition: "service_healthy", required: true },
        b: { condition: "service_started", required: false },
      },
    },
  },
  {
    name: "deploy is merged all the way down",
    under: "deploy: {replicas: 2, resources: {limits: {cpus: 1, memory: 1g}}, labels: [a=b]}",
    over: "deploy: {resources: {limits: {memory: 512M}}, labels: {c: d}}",
    is: {
      deploy: {
        replicas: 2,
        resources: { limits: { cpus: "1", memory: "536870912" } },
        labels: { a: "b", c: "d" },
      },
    },
  },
  {
    name: "another log driver has none of the first one's options",
    under: "logging: {driver: a, options: {x: y}}",
    over: "logging: {driver: b}",
    is: { logging: { driver: "b" } },
  },
  {
    name: "the same log driver keeps them",
    under: "logging: {driver: a, options: {x: y}}",
    over: "logging: {options: {z: 1}}",
    is: { logging: { driver: "a", options: { x: "y", z: "1" } } },
  },
  {
    name: "ulimits by name",
    under: "ulimits: {nofile: {soft: 1, hard: 2}, nproc: 3}",
    over: "ulimits: {nofile: 9}",
    is: { ulimits: { nofile: 9, nproc: 3 } },
  },
  {
    name: "!reset forgets",
    under: "ports: ['80:80']\ntty: true",
    over: "ports: !reset []\ntty: !reset",
    is: {},
  },
  {
    name: "!override replaces",
    under: "ports: ['80:80']\nenvironment: {A: 1}",
    over: "ports: !override ['81:81']\nenvironment: !override {B: 2}",
    is: {
      ports: [{ mode: "ingress", target: 81, published: 81, protocol: "tcp" }],
      environment: { B: "2" },
    },
  },
  {
    name: "!reset forgets one of a map",
    under: "environment: {A: 1, B: 2}",
    over: "environment: {A: !reset null}",
    is: { environment: { B: "2" } },
  },
  {
    name: "hosts are joined, written either way",
    under: "extra_hosts: ['a:1.2.3.4']",
    over: "extra_hosts: {b: 5.6.7.8, c: ['[::1]', 9.9.9.9]}",
    is: { extra_hosts: ["a:1.2.3.4", "b:5.6.7.8", "c:[::1]", "c:9.9.9.9"] },
  },
];

for (const { name, under, over, is } of overs)
  test(`in two files ${name}`, () => {
    const text = (body: string) =>
      services(
        `s:\n${body
          .split("\n")
          .map((line) => `  ${line}`)
          .join("\n")}`,
      );
    const files = { "a.yaml": text(under), "b.yaml": text(over) };
    const file = merged({ files, named: ["a.yaml", "b.yaml"] });
    assert.deepEqual((file["services"] as { s: unknown }).s, is);
  });

test("a whole service may be reset, and a network replaced", () => {
  const files = {
    "a.yaml":
      "services: {a: {image: x}, b: {image: y}}\nnetworks: {n: {internal: true, attachable: true}}",
    "b.yaml": "services: {b: !reset null}\nnetworks: {n: !override {internal: false}}",
  };
  assert.deepEqual(merged({ files, named: ["a.yaml", "b.yaml"] }), {
    services: { a: { image: "x" } },
    networks: { n: { internal: false } },
  });
});

const wholes: readonly { readonly name: string; readonly given: Given; readonly is: unknown }[] = [
  {
    name: "YAML's own anchors and merges are known",
    given: {
      files: {
        "compose.yaml":
          "x-a: &a {image: i, tty: true}\nservices:\n  s:\n    <<: *a\n    tty: false",
      },
    },
    is: { s: { image: "i", tty: false } },
  },
  {
    name: "paths are relative to the first file",
    given: {
      named: ["sub/a.yaml", "b.yaml"],
      files: {
        "sub/a.yaml": "services: {s: {volumes: ['./x:/x', '~/y:/y', '../z:/z', '/w:/w']}}",
        "b.yaml": "services: {s: {volumes: [{type: bind, source: ./v, target: /v}]}}",
      },
    },
    is: {
      s: {
        volumes: [
          { type: "bind", source: "/home/u/app/sub/x", target: "/x" },
          { type: "bind", source: "/home/u/y", target: "/y" },
          { type: "bind", source: "/home/u/app/z", target: "/z" },
          { type: "bind", source: "/w", target: "/w" },
          { type: "bind", source: "/home/u/app/sub/v", target: "/v" },
        ],
      },
    },
  },
  {
    name: ".env is read, the environment goes before it",
    given: {
      files: {
        ".env": "A=file\nB=file\nC=${A}",
        "compose.yaml": "services: {s: {image: '${A}-${B}-${C}-${COMPOSE_PROJECT_NAME}'}}",
      },
      environment: { A: "own" },
    },
    is: { s: { image: "own-file-own-st" } },
  },
  {
    name: "--env-file stands instead of .env",
    given: {
      files: {
        ".env": "A=no",
        "x.env": "A=x",
        "y.env": "B=${A}y",
        "compose.yaml": "services: {s: {image: $A$B}}",
      },
      envFiles: ["x.env", "y.env"],
    },
    is: { s: { image: "xxy" } },
  },
  {
    name: "env_file comes before environment, later files over earlier ones",
    given: {
      files: {
        "a.env": "A=a\nB=a\nC=a\nQ='$A'",
        "b.env": "B=b\nD",
        "compose.yaml":
          "services: {s: {env_file: [a.env, {path: b.env}, {path: none.env, required: false}, {path: raw.env, format: raw}], environment: {C: own, D2: , E: }}}",
        "raw.env": "R='x'",
      },
      environment: { D: "outside", E: "outside" },
    },
    is: {
      s: {
        environment: {
          A: "a",
          B: "b",
          C: "own",
          Q: "$A",
          D: "outside",
          R: "'x'",
          D2: null,
          E: "outside",
        },
      },
    },
  },
  {
    name: "label_file stands below labels",
    given: {
      files: {
        "l.labels": "a=1\nb=2",
        "compose.yaml": "services: {s: {label_file: l.labels, labels: [b=3]}}",
      },
    },
    is: { s: { labels: { a: "1", b: "3" } } },
  },
  {
    name: "a service extends another of its file, and that one another",
    given: {
      files: {
        "compose.yaml":
          "services:\n  a: {image: a, environment: {A: 1}}\n  b: {extends: a, environment: {B: 2}}\n  c: {extends: {service: b}, image: c}",
      },
    },
    is: {
      a: { image: "a", environment: { A: "1" } },
      b: { image: "a", environment: { A: "1", B: "2" } },
      c: { image: "c", environment: { A: "1", B: "2" } },
    },
  },
  {
    name: "a service extends one of another file, whose paths are that file's",
    given: {
      files: {
        "compose.yaml":
          "services: {s: {extends: {file: common/base.yaml, service: web}, command: x}}",
        "common/base.yaml":
          "services:\n  web: {extends: root, volumes: ['./d:/d'], env_file: e.env, command: y}\n  root: {image: '${I:-i}'}",
        "common/e.env": "A=1",
      },
    },
    is: {
      s: {
        image: "i",
        volumes: [{ type: "bind", source: "/home/u/app/common/d", target: "/d" }],
        command: ["x"],
        environment: { A: "1" },
      },
    },
  },
  {
    name: "what is included has its own folder and variables",
    given: {
      files: {
        "compose.yaml": "include: [db/compose.yaml]\nservices: {s: {image: '${V:-none}'}}",
        "db/compose.yaml": "services: {db: {image: 'db:${V}', volumes: ['./d:/d']}}",
        "db/.env": "V=7",
      },
    },
    is: {
      s: { image: "none" },
      db: { image: "db:7", volumes: [{ type: "bind", source: "/home/u/app/db/d", target: "/d" }] },
    },
  },
  {
    name: "an include may be of several files, with a folder and variables said",
    given: {
      files: {
        "compose.yaml":
          "include: [{path: [a/one.yaml, a/two.yaml], project_directory: p, env_file: v.env}]",
        "a/one.yaml": "services: {x: {image: i, volumes: ['./d:/d']}}",
        "a/two.yaml": "services: {x: {image: 'j$V'}}",
        "v.env": "V=1",
      },
    },
    is: {
      x: { image: "j1", volumes: [{ type: "bind", source: "/home/u/app/p/d", target: "/d" }] },
    },
  },
  {
    name: "a later file changes what an earlier one includes",
    given: {
      named: ["a.yaml", "b.yaml"],
      files: {
        "a.yaml": "include: [c.yaml]",
        "b.yaml": "services: {x: {tty: true}}",
        "c.yaml": "services: {x: {image: i}}",
      },
    },
    is: { x: { image: "i", tty: true } },
  },
  {
    name: "standard input is a file like others",
    given: { named: ["-"], files: { "-": "services: {x: {image: i, volumes: ['./a:/a']}}" } },
    is: { x: { image: "i", volumes: [{ type: "bind", source: "/home/u/app/a", target: "/a" }] } },
  },
];

for (const { name, given, is } of wholes)
  test(name, () => assert.deepEqual(merged(given)["services"], is));

const wrongs: readonly { readonly name: string; readonly given: Given; readonly says: RegExp }[] = [
  {
    name: "a file that is not there",
    given: { files: {} },
    says: /open \/home\/u\/app\/compose\.yaml: no such file/,
  },
  {
    name: "no YAML",
    given: { files: { "compose.yaml": "a: [" } },
    says: /compose\.yaml: .*line 1/,
  },
  {
    name: "a key given twice",
    given: { files: { "compose.yaml": "services: {a: {image: x, image: y}}" } },
    says: /Map keys must be unique/,
  },
  {
    name: "a list as the file",
    given: { files: { "compose.yaml": "- a" } },
    says: /top-level object must be a mapping/,
  },
  {
    name: "an unknown attribute",
    given: { files: { "compose.yaml": "services: {web: {image: x, foo: bar}}" } },
    says: /^StackError: services\.web Additional property foo is not allowed$/,
  },
  {
    name: "a wrong type",
    given: { files: { "compose.yaml": "services: {web: {image: [x]}}" } },
    says: /services\.web\.image is of a wrong type/,
  },
  {
    name: "a wrong word",
    given: { files: { "compose.yaml": "services: {web: {deploy: {mode: many}}}" } },
    says: /services\.web\.deploy\.mode must be one of replicated, global/,
  },
  {
    name: "a wrong size",
    given: { files: { "compose.yaml": "services: {web: {mem_limit: lots}}" } },
    says: /services\.web\.mem_limit: invalid size: 'lots'/,
  },
  {
    name: "a wrong duration",
    given: { files: { "compose.yaml": "services: {web: {stop_grace_period: soon}}" } },
    says: /services\.web\.stop_grace_period: invalid duration "soon"/,
  },
  {
    name: "a wrong port",
    given: { files: { "compose.yaml": "services: {web: {ports: ['99999:1']}}" } },
    says: /services\.web\.ports\[0\]: invalid port "99999"/,
  },
  {
    name: "a required variable",
    given: { files: { "compose.yaml": "services: {web: {image: '${TAG:?choose one}'}}" } },
    says: /services\.web\.image: required variable TAG is missing a value: choose one/,
  },
  {
    name: "a service that extends itself",
    given: { files: { "compose.yaml": "services: {a: {extends: b}, b: {extends: a}}" } },
    says: /extends itself/,
  },
  {
    name: "a service that extends nobody",
    given: { files: { "compose.yaml": "services: {a: {extends: b}}" } },
    says: /there is no service "b" in/,
  },
  {
    name: "a file that includes itself",
    given: { files: { "compose.yaml": "include: [b.yaml]", "b.yaml": "include: [compose.yaml]" } },
    says: /includes itself/,
  },
  {
    name: "what is defined here and in what is included",
    given: {
      files: {
        "compose.yaml": "include: [b.yaml]\nservices: {a: {image: x}}",
        "b.yaml": "services: {a: {image: y}}",
      },
    },
    says: /services\.a is defined in \/home\/u\/app\/b\.yaml too/,
  },
  {
    name: "an env_file that is not there",
    given: { files: { "compose.yaml": "services: {a: {env_file: no.env}}" } },
    says: /services\.a: open \/home\/u\/app\/no\.env: no such file/,
  },
  {
    name: "a dependency on nobody",
    given: { files: { "compose.yaml": "services: {a: {depends_on: [b]}}" } },
    says: /services\.a\.depends_on: undefined service "b"/,
  },
  {
    name: "a dependency on a service of another profile",
    given: { files: { "compose.yaml": "services: {a: {depends_on: [b]}, b: {profiles: [dev]}}" } },
    says: /"b" is in a profile that was not asked for: give --profile dev/,
  },
];

for (const { name, given, says } of wrongs)
  test(`${name} is named`, () => assert.throws(() => project(given), says));

test("variables without a value are told of once", () => {
  const files = { "compose.yaml": "services: {a: {image: 'x$NO', user: '${NO}${NEITHER}'}}" };
  assert.deepEqual(load({ files }).unset, ["NO", "NEITHER"]);
});

test("profiles choose services, and what only they use", () => {
  const yaml = `
services:
  a: {image: x, depends_on: {d: {condition: service_started, required: false}}}
  d: {image: x, profiles: [dev, test], secrets: [s]}
  e: {image: x, profiles: [more]}
secrets: {s: {file: s.txt}, t: {file: t.txt}}`;
  const chosen = (profiles: string[]) => project({ files: { "compose.yaml": yaml }, profiles });
  const names = (profiles: string[]) => Object.keys(chosen(profiles).services);
  assert.deepEqual(names([]), ["a"]);
  assert.deepEqual(names(["test"]), ["a", "d"]);
  assert.deepEqual(names(["*"]), ["a", "d", "e"]);
  assert.deepEqual(Object.keys(chosen([]).secrets), ["t"]);
  assert.deepEqual(Object.keys(chosen(["dev"]).secrets), ["s", "t"]);
});
