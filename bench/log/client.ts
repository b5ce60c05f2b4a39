// The client of the log's measurement, a process of its own: `node client.js SETTING-FILE`. Writes through the leader's gRPC
// door, over TLS, from so many writers at once, each with one write outstanding. Prints what it measured as JSON.

import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import grpc from "@grpc/grpc-js";
import protobuf from "protobufjs";
import { CarryingClient } from "../../proto/carrier.ts";
import type { CreateServiceRequest, ServiceSpec } from "../../proto/gen/types.ts";
import { newId } from "../../proto/kit/ids.ts";
import { definitionOf } from "../../proto/rpc.ts";
import { toManager } from "../../proto/tls.ts";
import { type ClientResult, type ClientSetting, payloadBytes } from "./setting.ts";

type Write = () => Promise<unknown>;

const callMs = 10_000;
const retryMs = 10;
/** The part of etcd's API that is used here. */
const etcdSchema = `
  syntax = "proto3";
  package etcdserverpb;
  service KV { rpc Put(PutRequest) returns (PutResponse); }
  service Maintenance { rpc Status(StatusRequest) returns (StatusResponse); }
  message PutRequest { bytes key = 1; bytes value = 2; }
  message PutResponse { ResponseHeader header = 1; }
  message ResponseHeader { uint64 cluster_id = 1; string member_id = 99; }
  message StatusRequest {}
  message StatusResponse { ResponseHeader header = 1; string version = 2; }
`;

const setting = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8")) as ClientSetting;
const write = setting.kind === "etcd" ? await toEtcd() : await toLeader();
const result = await measure(write);
process.stdout.write(`${JSON.stringify(result)}\n`);
process.exit(0);

async function measure(once: Write): Promise<ClientResult> {
  const { writers, warmUpMs, measuredMs } = setting;
  const start = performance.now() + warmUpMs;
  const end = start + measuredMs;
  const latencies: number[] = [];
  const run = async (): Promise<void> => {
    for (;;) {
      const asked = performance.now();
      if (asked >= end) return;
      // What is refused for now, as while leadership changes, is no write; its time is lost all the same.
      if (!(await succeeds(once))) continue;
      const answered = performance.now();
      if (asked >= start && answered < end) latencies.push(answered - asked);
    }
  };
  await Promise.all(Array.from({ length: writers }, run));
  latencies.sort((a, b) => a - b);
  const quantile = (q: number) => latencies[Math.floor(q * (latencies.length - 1))] ?? Number.NaN;
  return {
    perSecond: (latencies.length * 1000) / measuredMs,
    p50Ms: quantile(0.5),
    p99Ms: quantile(0.99),
  };
}

async function succeeds(once: Write): Promise<boolean> {
  try {
    await once();
    return true;
  } catch {
    await new Promise((resolve) => setTimeout(resolve, retryMs));
    return false;
  }
}

async function toLeader(): Promise<Write> {
  const { addresses, identity, clusterId, makes } = setting;
  for (const address of addresses) {
    const client = new CarryingClient("Control", address, toManager(identity, clusterId));
    const once = makes === "config" ? configs(client) : services(client);
    try {
      await once();
      return once;
    } catch {
      client.close();
    }
  }
  throw new Error("no manager takes writes");
}

function configs(client: CarryingClient<"Control">): Write {
  const name = names();
  const Data = Buffer.alloc(payloadBytes, "x");
  return () =>
    client.unary(
      "CreateConfig",
      { Spec: { Name: name(), Labels: {}, Data } },
      { timeoutMs: callMs },
    );
}

/** Without replicas: two objects, and a decision by the manager each. */
function services(client: CarryingClient<"Control">): Write {
  const name = names();
  const request = (): CreateServiceRequest => {
    const Spec = {
      Name: name(),
      Labels: { payload: "x".repeat(payloadBytes) },
      TaskTemplate: { ContainerSpec: { Image: "none" } },
      Mode: { Replicated: { Replicas: 0 } },
    } as unknown as ServiceSpec;
    return { Spec, RegistryAuth: "" };
  };
  return () => client.unary("CreateService", request(), { timeoutMs: callMs });
}

function names(): () => string {
  const prefix = newId().slice(0, 8);
  let last = 0;
  return () => `${prefix}-${++last}`;
}

async function toEtcd(): Promise<Write> {
  const { root } = protobuf.parse(etcdSchema, { keepCase: true });
  const put = definitionOf(root.lookupService("etcdserverpb.KV"))["Put"];
  if (put === undefined) throw new Error("etcd's Put is not defined");
  const { identity, addresses } = setting;
  const context = createSecureContext({
    ca: identity.rootCA,
    cert: identity.certificate,
    key: identity.key,
    minVersion: "TLSv1.3",
  });
  const credentials = grpc.credentials.createFromSecureContext(context);
  const client = new grpc.Client(addresses[0] ?? "", credentials, {});
  let next = 0;
  return () => {
    next += 1;
    const request = {
      key: Buffer.from(`bench-${next}`.padEnd(32)),
      value: Buffer.alloc(payloadBytes, "x"),
    };
    return new Promise((resolve, reject) =>
      client.makeUnaryRequest(
        put.path,
        put.requestSerialize,
        put.responseDeserialize,
        request,
        new grpc.Metadata(),
        { deadline: Date.now() + callMs },
        (error, response) => (error === null ? resolve(response) : reject(error)),
      ),
    );
  };
}
