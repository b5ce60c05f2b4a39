import assert from "node:assert/strict";
import { test } from "node:test";
import { linkEnvironment } from "../../../../agent/engine/link-environment.ts";

test("a link tells ports, the lowest first, the name, and the other's own variables", () => {
  const env = linkEnvironment("web", {
    alias: "my-db",
    address: "172.29.0.3",
    ports: ["6000/udp", "5432/tcp"],
    env: ["USER=me", "PATH=/bin", "_=x", "EMPTY="],
  });
  assert.deepEqual(env, [
    "MY_DB_PORT=tcp://172.29.0.3:5432",
    "MY_DB_PORT_5432_TCP=tcp://172.29.0.3:5432",
    "MY_DB_PORT_5432_TCP_ADDR=172.29.0.3",
    "MY_DB_PORT_5432_TCP_PORT=5432",
    "MY_DB_PORT_5432_TCP_PROTO=tcp",
    "MY_DB_PORT_6000_UDP=udp://172.29.0.3:6000",
    "MY_DB_PORT_6000_UDP_ADDR=172.29.0.3",
    "MY_DB_PORT_6000_UDP_PORT=6000",
    "MY_DB_PORT_6000_UDP_PROTO=udp",
    "MY_DB_NAME=/web/my-db",
    "MY_DB_ENV_USER=me",
    "MY_DB_ENV_EMPTY=",
  ]);
});

test("without ports a link tells a name alone", () => {
  const linked = { alias: "x", address: "172.29.0.3", ports: [], env: [] };
  assert.deepEqual(linkEnvironment("web", linked), ["X_NAME=/web/x"]);
});
