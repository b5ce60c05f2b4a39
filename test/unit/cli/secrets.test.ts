import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { wantedFile } from "../../../cli/service-files.ts";
import { now, runCommand } from "./fake.ts";

const folder = mkdtempSync(join(tmpdir(), "tsswarm-secrets-"));
const file = join(folder, "value");
writeFileSync(file, Buffer.from([0, 255, 104, 105]));
const Data = "AP9oaQ==";
after(() => rmSync(folder, { recursive: true }));

const at = (seconds: number) => new Date(now - seconds * 1000).toISOString();
const secrets = [
  {
    ID: "s10",
    Spec: { Name: "db-10", Labels: { tier: "db" } },
    CreatedAt: at(90),
    UpdatedAt: at(5),
    Generation: 2,
  },
  { ID: "s9", Spec: { Name: "db-9", Labels: {} }, CreatedAt: at(7200), UpdatedAt: at(7200) },
];
const service = {
  ID: "w1",
  Version: { Index: 7 },
  Spec: {
    Name: "web",
    Mode: { Replicated: { Replicas: 1 } },
    TaskTemplate: {
      ContainerSpec: {
        Image: "web",
        Secrets: [
          {
            SecretID: "s9",
            SecretName: "db-9",
            File: { Name: "a", UID: "0", GID: "0", Mode: 292 },
          },
          {
            SecretID: "s8",
            SecretName: "db-8",
            File: { Name: "b", UID: "0", GID: "0", Mode: 292 },
          },
        ],
        Configs: [
          { ConfigID: "c1", ConfigName: "conf", File: { Name: "/c", UID: "0", GID: "0", Mode: 0 } },
        ],
      },
    },
  },
};
const answers = {
  "POST /secrets/create": { ID: "new" },
  "POST /configs/create": { ID: "new" },
  "GET /secrets": secrets,
  "GET /secrets/db-10": secrets[0],
  "GET /configs": [{ ID: "c2", Spec: { Name: "app.conf" } }],
  "GET /configs/app.conf": {
    ID: "c2",
    Spec: { Name: "app.conf", Data: Buffer.from("x = 1\n").toString("base64") },
  },
  "GET /services/web": service,
  "POST /services/create": { ID: "w2" },
  "POST /services/w1/update": {},
};

test("what is in a file, whatever its bytes, becomes a secret or a config", async () => {
  const made = await runCommand(["secret", "create", "-l", "tier=db", "db", file], answers);
  assert.equal(made.out, "new\n");
  assert.deepEqual(made.asked[0]?.body, { Name: "db", Labels: { tier: "db" }, Data });
  const config = await runCommand(
    ["config", "create", "--template-driver", "golang", "c", file],
    answers,
  );
  assert.deepEqual(config.asked[0]?.body, {
    Name: "c",
    Labels: {},
    Data,
    Templating: { Name: "golang" },
  });
  const none = await runCommand(["secret", "create", "db"], answers);
  assert.deepEqual([none.code, none.err], [1, "secret file is required\n"]);
  const driver = await runCommand(["secret", "create", "-d", "vault", "db", file], answers);
  assert.match(driver.err, /when using secret driver secret data must be empty/);
});

test("secret ls sorts by name and shows age, labels and version", async () => {
  const { out } = await runCommand(["secret", "ls"], answers);
  assert.equal(
    out,
    [
      "ID        NAME      DRIVER    CREATED              UPDATED",
      "s9        db-9                2 hours ago          2 hours ago",
      "s10       db-10               About a minute ago   5 seconds ago",
      "",
    ].join("\n"),
  );
  const format = ["secret", "ls", "--format", "{{.Name}} {{.Version}} {{.Labels}}"];
  assert.equal((await runCommand(format, answers)).out, "db-9 1 \ndb-10 2 tier=db\n");
  const quiet = await runCommand(["secret", "ls", "-q", "-f", "label=tier"], answers);
  assert.equal(quiet.out, "s9\ns10\n");
  assert.equal(quiet.asked[0]?.query["filters"], '{"label":["tier"]}');
});

test("inspect --pretty shows a config's content and of a secret all else", async () => {
  const config = await runCommand(["config", "inspect", "--pretty", "app.conf"], answers);
  assert.match(config.out, /Name:\t+app\.conf\n.*Data:\nx = 1\n/s);
  const secret = await runCommand(["secret", "inspect", "--pretty", "db-10"], answers);
  assert.match(secret.out, /Labels:\n - tier=db\nDriver:\t+\nVersion:\t+2\n/);
});

test("rotate sends the new content, and says which services do not take it", async () => {
  const moved = {
    ID: "s11",
    Generation: 3,
    Services: [
      { ID: "w1", Name: "web", Err: "" },
      { ID: "w2", Name: "api", Err: "network back not found" },
    ],
  };
  const ran = await runCommand(["secret", "rotate", "--detach", "db-10", file], {
    ...answers,
    "POST /tsswarm/secrets/db-10/rotate": moved,
  });
  assert.deepEqual(ran.asked[0]?.body, { Data });
  assert.equal(ran.out, "s11\nweb\n");
  assert.equal(ran.err, "service api stays with the version it has: network back not found\n");
  assert.equal(ran.code, 1);
});

test("rotate waits until each service has converged", async () => {
  const task = {
    ID: "t1",
    Slot: 1,
    ServiceID: "w1",
    DesiredState: "running",
    Status: { State: "running", Timestamp: at(60) },
  };
  const ran = await runCommand(["config", "rotate", "app.conf", file], {
    ...answers,
    "POST /tsswarm/configs/app.conf/rotate": {
      ID: "c3",
      Generation: 2,
      Services: [{ ID: "w1", Name: "web", Err: "" }],
    },
    "GET /services/w1": {
      ...service,
      UpdateStatus: { State: "rollback_paused", Message: "rollback paused" },
    },
    "GET /tasks": [task],
  });
  assert.match(ran.out, /^c3\nweb\noverall progress: /);
  assert.match(ran.err, /service web has not taken the new version\n$/);
  assert.equal(ran.code, 1);
});

const root = { UID: "0", GID: "0", Mode: 0o444 };
const flags: readonly (readonly [string, object | RegExp])[] = [
  ["db", { name: "db", file: { Name: "db", ...root } }],
  ["source=db", { name: "db", file: { Name: "db", ...root } }],
  ["src=db,target=/etc/db", { name: "db", file: { Name: "/etc/db", ...root } }],
  [
    "source=db,uid=10,gid=20,mode=0400",
    { name: "db", file: { Name: "db", UID: "10", GID: "20", Mode: 0o400 } },
  ],
  ["source=db,mode=0o40", { name: "db", file: { Name: "db", UID: "0", GID: "0", Mode: 0o40 } }],
  ["source=db,mode=256", { name: "db", file: { Name: "db", UID: "0", GID: "0", Mode: 0o400 } }],
  ["source=db,mode=0x100", { name: "db", file: { Name: "db", UID: "0", GID: "0", Mode: 0o400 } }],
  ["target=db", /source is required/],
  ["source=db,mode=rw", /invalid mode specified: "rw"/],
  ["source=db,mode=", /invalid mode specified/],
  ["source=db,owner=1", /invalid field in secret request: owner/],
  ["source=db,target", /invalid field 'target' must be a key=value pair/],
];
for (const [text, expected] of flags)
  test(`--secret ${text}`, () => {
    if (expected instanceof RegExp) assert.throws(() => wantedFile("secret", text), expected);
    else assert.deepEqual(wantedFile("secret", text), expected);
  });

test("service create looks up the ids of what it names", async () => {
  const { asked, err } = await runCommand(
    [
      "service",
      "create",
      "-d",
      "--no-resolve-image",
      "--secret",
      "db-9",
      "--secret",
      "source=db-9,target=again",
    ].concat(["--config", "source=app.conf,target=/etc/app.conf,mode=0400", "web"]),
    answers,
  );
  const lookup = asked.filter(({ path }) => path === "/secrets");
  assert.deepEqual(
    lookup.map(({ query }) => query["filters"]),
    ['{"names":["db-9"]}'],
    err,
  );
  const create = asked.find(({ path }) => path === "/services/create");
  assert.deepEqual((create?.body as { TaskTemplate?: object } | undefined)?.TaskTemplate, {
    ContainerSpec: {
      Image: "web",
      Secrets: [
        { SecretID: "s9", SecretName: "db-9", File: { Name: "db-9", ...root } },
        { SecretID: "s9", SecretName: "db-9", File: { Name: "again", ...root } },
      ],
      Configs: [
        {
          ConfigID: "c2",
          ConfigName: "app.conf",
          File: { Name: "/etc/app.conf", UID: "0", GID: "0", Mode: 0o400 },
        },
      ],
    },
  });
  const absent = await runCommand(["service", "create", "-d", "--secret", "none", "web"], answers);
  assert.deepEqual([absent.code, absent.err], [1, "secret not found: none\n"]);
  const twice = await runCommand(
    ["service", "create", "--secret", "a", "--secret", "source=b,target=a", "web"],
    answers,
  );
  assert.match(twice.err, /duplicate secret target for b not allowed/);
});

test("service update adds and removes by name, replaces at the same target, and leaves the rest at its version", async () => {
  const { asked, err } = await runCommand(
    [
      "service",
      "update",
      "-d",
      "--secret-rm",
      "db-8",
      "--secret-add",
      "source=db-10,target=a",
      "--config-rm",
      "conf",
      "web",
    ],
    answers,
  );
  const update = asked.find(({ path }) => path === "/services/w1/update");
  assert.ok(update, err);
  const { TaskTemplate } = update.body as { TaskTemplate: { ContainerSpec: object } };
  assert.deepEqual(TaskTemplate.ContainerSpec, {
    Image: "web",
    Secrets: [{ SecretID: "s10", SecretName: "db-10", File: { Name: "a", ...root } }],
  });
  const other = await runCommand(["service", "update", "-d", "--env-add", "A=b", "web"], answers);
  const body = other.asked.find(({ path }) => path === "/services/w1/update")
    ?.body as typeof service.Spec;
  const { Secrets, Configs } = service.Spec.TaskTemplate.ContainerSpec;
  assert.deepEqual(body.TaskTemplate.ContainerSpec.Secrets, Secrets);
  assert.deepEqual(body.TaskTemplate.ContainerSpec.Configs, Configs);
});
