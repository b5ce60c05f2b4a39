import assert from "node:assert/strict";
import { test } from "node:test";
import { exposed, parsePublish } from "../../../cli/published-ports.ts";

const rows: readonly (readonly [string, readonly (readonly [string, string, string])[]])[] = [
  ["80", [["80/tcp", "", ""]]],
  ["8080:80", [["80/tcp", "", "8080"]]],
  ["8080-8090:80/udp", [["80/udp", "", "8080-8090"]]],
  ["127.0.0.1:8080:80", [["80/tcp", "127.0.0.1", "8080"]]],
  ["127.0.0.1::80", [["80/tcp", "127.0.0.1", ""]]],
  ["[::1]:8080:80", [["80/tcp", "::1", "8080"]]],
  [
    "9010-9011:8010-8011",
    [
      ["8010/tcp", "", "9010"],
      ["8011/tcp", "", "9011"],
    ],
  ],
  [
    "127.0.0.1::80-81",
    [
      ["80/tcp", "127.0.0.1", ""],
      ["81/tcp", "127.0.0.1", ""],
    ],
  ],
];
for (const [text, wanted] of rows)
  test(`-p ${text} is ${wanted.map((each) => each.join(" ")).join(", ")}`, () => {
    const published = parsePublish(text).map(({ port, binding }) => [
      ...[port, binding.HostIp, binding.HostPort],
    ]);
    assert.deepEqual(published, wanted);
  });

test("ports that cannot be are told", () => {
  for (const text of ["x", "80:x", "1-2-3:80", "80/icmp", ""])
    assert.throws(() => parsePublish(text), /\[ip:\]\[port:\]port is expected/);
  assert.throws(() => parsePublish("8000-8005:80-81"), /invalid ranges specified/);
  assert.throws(() => parsePublish("82-80"), /invalid range of ports/);
  assert.throws(() => exposed("9-x"), /invalid range format/);
  assert.deepEqual(exposed("53-54/udp"), ["53/udp", "54/udp"]);
});
