import assert from "node:assert/strict";
import { test } from "node:test";
import { Arrivals, arrivalLimits } from "../../../../manager/identity/arrivals.ts";

const second = 1_000;

/** How many of so many arrivals at one moment are taken. */
function taken(
  arrivals: Arrivals,
  count: number,
  host: (i: number) => string,
  isKnown: boolean,
  now: number,
): number {
  let sum = 0;
  for (let i = 0; i < count; i++)
    if (arrivals.arrives(host(i), isKnown, now)) {
      sum += 1;
      arrivals.settled(host(i));
      arrivals.leaves(host(i));
    }
  return sum;
}

test("one host gets its burst, then so many a second", () => {
  const arrivals = new Arrivals(arrivalLimits);
  const one = () => "10.0.0.9";
  assert.equal(taken(arrivals, 1_000, one, false, 0), arrivalLimits.burstPerHost);
  assert.equal(taken(arrivals, 1_000, one, false, second), arrivalLimits.perSecondPerHost);
  assert.equal(taken(arrivals, 1_000, one, false, 2 * second), arrivalLimits.perSecondPerHost);
});

test("strangers together are limited, and take nothing from nodes", () => {
  const arrivals = new Arrivals(arrivalLimits);
  const many = (i: number) => `192.0.2.${i % 250}`;
  assert.equal(taken(arrivals, 2_000, many, false, 0), arrivalLimits.burstOfStrangers);
  assert.equal(
    taken(arrivals, 2_000, (i) => `10.1.${i >> 8}.${i & 255}`, true, 0),
    2_000,
  );
});

test("all of one IPv6 customer is one host, however its addresses are written", () => {
  const arrivals = new Arrivals(arrivalLimits);
  const host = (i: number) =>
    i % 2 === 0 ? `2001:db8::${i.toString(16)}` : `2001:db8:0:0:${i.toString(16)}::1`;
  assert.equal(taken(arrivals, 1_000, host, false, 0), arrivalLimits.burstPerHost);
});

test("handshakes that do not come to an end and connections that stay are counted", () => {
  const limits = { ...arrivalLimits, burstPerHost: 10_000, burstOfStrangers: 10_000 };
  const slow = new Arrivals(limits);
  let open = 0;
  while (slow.arrives("10.0.0.9", false, 0)) open += 1;
  assert.equal(open, limits.handshakesPerHostMax);
  const standing = new Arrivals(limits);
  let held = 0;
  for (; standing.arrives("10.0.0.9", false, 0); held++) standing.settled("10.0.0.9");
  assert.equal(held, limits.openPerHostMax);
  standing.leaves("10.0.0.9");
  assert.equal(standing.arrives("10.0.0.9", false, 0), true);
});

test("what there is to remember of hosts does not grow without end", () => {
  const limits = { ...arrivalLimits, hostsMax: 10, burstOfStrangers: 10_000 };
  const arrivals = new Arrivals(limits);
  for (let i = 0; i < 10; i++) assert.equal(arrivals.arrives(`10.0.0.${i}`, false, 0), true);
  assert.equal(arrivals.arrives("10.0.1.1", false, 0), false);
  arrivals.settled("10.0.0.1");
  arrivals.leaves("10.0.0.1");
  assert.equal(arrivals.arrives("10.0.1.1", false, 10 * second), true);
});
