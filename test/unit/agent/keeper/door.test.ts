import assert from "node:assert/strict";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { openDoor } from "../../../../agent/keeper/door.ts";
import type { KeeperRequest, KeeperResponse } from "../../../../proto/kit/keeper.ts";
import { KeeperClient } from "../../../../proto/kit/keeper-client.ts";
import { silentLog } from "../../../../proto/kit/log.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tsswarm-door-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const fine = async (): Promise<KeeperResponse> => ({ ok: true });
const path = () => join(folder, "keeper.sock");

test("only our own user may open the door", async () => {
  const door = await openDoor(path(), fine, silentLog);
  assert.equal(statSync(path()).mode & 0o777, 0o600);
  await door.close();
});

test("requests are begun at once and answered in their order", async () => {
  const begun: string[] = [];
  let finishFirst: () => void = () => {};
  const handle = async (request: KeeperRequest): Promise<KeeperResponse> => {
    begun.push(request.do);
    if (request.do === "closeLogs") await new Promise<void>((resolve) => (finishFirst = resolve));
    else finishFirst();
    return { ok: true };
  };
  const door = await openDoor(path(), handle, silentLog);
  const client = new KeeperClient(path(), silentLog);
  const answered: string[] = [];
  await Promise.all([
    client.ask({ do: "closeLogs", container: "c1" }).then(() => answered.push("closeLogs")),
    client.ask({ do: "forgetNames", sandbox: "s1" }).then(() => answered.push("forgetNames")),
  ]);
  assert.deepEqual(begun, ["closeLogs", "forgetNames"]);
  assert.deepEqual(answered, ["closeLogs", "forgetNames"]);
  client.close();
  await door.close();
});

test("what is not a request is answered with what is wrong with it", async () => {
  const door = await openDoor(path(), fine, silentLog);
  const socket = connect(path());
  socket.write('nonsense\n{"do":"fly"}\n{"do":"closeLogs","container":7}\n[]\n{"do":"status"}\n');
  let text = "";
  for await (const chunk of socket) {
    text += String(chunk);
    if (text.split("\n").length > 5) break;
  }
  const answers = text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as KeeperResponse);
  assert.deepEqual(
    answers.map((answer) => answer.ok),
    [false, false, false, false, true],
  );
  assert.match(text, /this keeper cannot do \\"fly\\"/);
  assert.match(text, /container: a text is expected/);
  await door.close();
});

test("a second keeper at the same place is refused, a dead one's socket is taken over", async () => {
  const door = await openDoor(path(), fine, silentLog);
  await assert.rejects(openDoor(path(), fine, silentLog), /running already/);
  await door.close();
  await (await openDoor(path(), fine, silentLog)).close();
});

test("a client asks once the keeper is there, and says when it is there again", async () => {
  const client = new KeeperClient(path(), silentLog);
  const early = client.ask({ do: "status" });
  let door = await openDoor(path(), fine, silentLog);
  await early;
  const again = new Promise<void>((resolve) => client.onReconnect(resolve));
  await door.close();
  door = await openDoor(path(), fine, silentLog);
  await again;
  await client.ask({ do: "status" });
  client.close();
  await assert.rejects(client.ask({ do: "status" }), { code: "unavailable" });
  await door.close();
});

test("what was asked of a keeper that went away is rejected as unavailable", async () => {
  let begin: () => void = () => {};
  const begun = new Promise<void>((resolve) => (begin = resolve));
  const never = () => {
    begin();
    return new Promise<never>(() => {});
  };
  const door = await openDoor(path(), never, silentLog);
  const client = new KeeperClient(path(), silentLog);
  const asked = client.ask({ do: "status" });
  void begun.then(() => door.close());
  await assert.rejects(asked, { code: "unavailable" });
  client.close();
});
