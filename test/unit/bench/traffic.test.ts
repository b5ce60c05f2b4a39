import assert from "node:assert/strict";
import { test } from "node:test";
import { gigabitsOf, pingAverage } from "../../../bench/traffic.ts";

test("what arrived counts, not what was sent", () => {
  const end = { sum_sent: { bits_per_second: 9e9 }, sum_received: { bits_per_second: 8e9 } };
  assert.equal(gigabitsOf(JSON.stringify({ end })), 8);
});

test("iperf3's own words are passed on when it fails", () => {
  assert.throws(() => gigabitsOf('{"error":"unable to connect"}'), /iperf3: unable to connect/);
});

test("busybox's ping gives its average in microseconds", () => {
  assert.equal(pingAverage("…\r\nround-trip min/avg/max = 0.010/0.021/0.150 ms\r\n"), 21);
  assert.throws(() => pingAverage("100% packet loss"), /ping: 100% packet loss/);
});
