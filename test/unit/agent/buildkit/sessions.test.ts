import assert from "node:assert/strict";
import { once } from "node:events";
import { Duplex } from "node:stream";
import { test } from "node:test";
import { messages } from "../../../../agent/buildkit/messages.ts";
import { type Session, Sessions } from "../../../../agent/buildkit/sessions.ts";
import { type Calls, type FakeClient, fakeClient } from "./fake-client.ts";

const never = new AbortController().signal;
const auth = "/moby.filesync.v1.Auth/Credentials";
const secret = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
const sync = "/moby.filesync.v1.FileSync/DiffCopy";
const secretAnswer = messages("moby.buildkit.secrets.v1.GetSecretResponse");
const authAnswer = messages("moby.filesync.v1.CredentialsResponse");

function headersOf(id: string, methods: readonly string[]) {
  return {
    upgrade: "h2c",
    "x-docker-expose-session-uuid": id,
    "x-docker-expose-session-sharedkey": "folder",
    "x-docker-expose-session-grpc-method": methods.join(", "),
  };
}

async function opened(calls: Calls): Promise<{
  readonly client: FakeClient;
  readonly session: Session;
  readonly sessions: Sessions;
}> {
  const client = await fakeClient(calls);
  const sessions = new Sessions();
  sessions.open(headersOf("one", Object.keys(calls)), () => client.socket);
  return { client, sessions, session: await sessions.find("one", never) };
}

test("secrets and passwords are asked for over the client's own connection", async () => {
  const { client, session } = await opened({
    [secret]: async (request) => {
      const { ID } = messages("moby.buildkit.secrets.v1.GetSecretRequest").decode(request);
      return [secretAnswer.encode({ data: Buffer.from(`the ${ID}`) })];
    },
    [auth]: async (request) => {
      const { Host } = messages("moby.filesync.v1.CredentialsRequest").decode(request);
      const known = Host === "token" ? { Secret: "t" } : { Username: "me", Secret: Host };
      return [authAnswer.encode(Host === "unknown" ? {} : known)];
    },
  });
  await using _ = client;
  assert.equal((await session.secret("word", never))?.toString(), "the word");
  assert.deepEqual(await session.auth("host:5000", never), {
    ...{ username: "me", password: "host:5000" },
  });
  assert.deepEqual(await session.auth("token", never), { identitytoken: "t" });
  assert.equal(await session.auth("unknown", never), null);
  assert.equal(session.sharedKey, "folder");
});

test("a client that offers nothing has no secrets, no passwords, and no folder", async () => {
  const { client, session } = await opened({});
  await using _ = client;
  assert.equal(await session.secret("word", never), null);
  assert.equal(await session.auth("host", never), null);
  assert.throws(() => session.folder({}, never), { code: "unsupported" });
});

test("a secret that is not there is none; what else goes wrong is told in the client's words", async () => {
  const failures: Readonly<Record<string, readonly [number, string]>> = {
    gone: [5, "no such secret"],
    broken: [13, "ein Fehler: 100% ümlaut"],
  };
  const { client, session } = await opened({
    [secret]: async (request) => {
      const { ID } = messages("moby.buildkit.secrets.v1.GetSecretRequest").decode(request);
      const [code = 2, words = ""] = failures[ID] ?? [];
      return { code, words };
    },
  });
  await using _ = client;
  assert.equal(await session.secret("gone", never), null);
  await assert.rejects(session.secret("broken", never), /ein Fehler: 100% ümlaut/);
});

test("what is asked of a folder comes as fields, several values as several", async () => {
  const seen: unknown[] = [];
  const { client, session } = await opened({
    [sync]: async (_request, headers) => {
      seen.push(headers["dir-name"], headers["followpaths"]);
      return [Buffer.from("a"), Buffer.from("b")];
    },
  });
  await using _ = client;
  const exchange = session.folder({ "dir-name": "context", followpaths: ["x", "y z"] }, never);
  exchange.end();
  const received: string[] = [];
  for await (const message of exchange.messages()) received.push(message.toString());
  assert.deepEqual(received, ["a", "b"]);
  assert.deepEqual(seen, ["context", "x, y z"]);
});

test("an agent is one that the client has said it has, and what is said to it comes back", async () => {
  const bytes = messages("moby.sshforward.v1.BytesMessage");
  const { client, session } = await opened({
    "/moby.sshforward.v1.SSH/CheckAgent": async (request) => {
      const { ID } = messages("moby.sshforward.v1.CheckAgentRequest").decode(request);
      return ID === "mine" ? [Buffer.alloc(0)] : { code: 2, words: "unset" };
    },
    "/moby.sshforward.v1.SSH/ForwardAgent": async (request, headers) => {
      const said = Buffer.from(bytes.decode(request).data).toString();
      return [bytes.encode({ data: Buffer.from(`${headers["buildkit.ssh.id"]}: ${said}`) })];
    },
  });
  await using _ = client;
  assert.equal(await session.agent("other", never), null);
  const carry = await session.agent("mine", never);
  const sides = new Duplex({
    read() {},
    write(data, _encoding, done) {
      answers.push(data.toString());
      done();
    },
  });
  const answers: string[] = [];
  sides.push("hello");
  sides.push(null);
  carry?.(sides);
  await once(sides, "close");
  assert.deepEqual(answers, ["mine: hello"]);
});

test("a client that goes away in the middle of a call fails it, and its session is forgotten", async () => {
  let begin = () => {};
  const begun = new Promise<void>((resolve) => {
    begin = resolve;
  });
  const { client, session, sessions } = await opened({
    [secret]: () => {
      begin();
      return new Promise(() => {});
    },
  });
  await using _ = client;
  const asked = session.secret("word", never);
  asked.catch(() => {});
  await begun;
  client.goAway();
  await assert.rejects(asked, /the build's client/);
  if (!session.gone.aborted) await once(session.gone, "abort");
  await assert.rejects(session.secret("word", never), { code: "cancelled" });
  const stop = new AbortController();
  const found = sessions.find("one", stop.signal);
  stop.abort(new Error("no longer wanted"));
  await assert.rejects(found, /no longer wanted/);
});

test("a call that is no longer wanted is broken off", async () => {
  const { client, session } = await opened({ [secret]: () => new Promise(() => {}) });
  await using _ = client;
  const stop = new AbortController();
  const asked = session.secret("word", stop.signal);
  stop.abort(new Error("the build was cancelled"));
  await assert.rejects(asked, /the build was cancelled/);
});

test("a session is waited for that opens after the build has been asked for", async () => {
  await using client = await fakeClient({});
  const sessions = new Sessions();
  const found = sessions.find("late", never);
  sessions.open(headersOf("late", []), () => client.socket);
  assert.equal((await found).sharedKey, "folder");
});

test("a session is one client's, over h2c, and refused before the connection is touched", async () => {
  await using client = await fakeClient({});
  const sessions = new Sessions();
  sessions.open(headersOf("one", []), () => client.socket);
  const untouched = () => assert.fail("the connection is taken");
  assert.throws(() => sessions.open(headersOf("one", []), untouched), { code: "conflict" });
  const other = { ...headersOf("two", []), upgrade: "tcp" };
  assert.throws(() => sessions.open(other, untouched), { code: "invalid" });
  sessions.close();
});
