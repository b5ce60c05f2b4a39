// The doors of the network: REST, gRPC messages, tokens, certificates, registries' answers, DNS.

import { X509Certificate } from "node:crypto";
import dnsPacket from "dns-packet";
import fc from "fast-check";
import { parseImageConfig, parseManifest } from "../../agent/engine/manifest.ts";
import { parseChallenge } from "../../agent/engine/registry.ts";
import { encodeAddresses, parseQuery } from "../../agent/keeper/packets.ts";
import { parseRequest } from "../../agent/keeper/requests.ts";
import { newKeyAndCsr } from "../../agent/session/identity.ts";
import { createRoot, requestedKey } from "../../manager/identity/ca.ts";
import { codec, type MessageName } from "../../proto/codec.ts";
import { parseReference } from "../../proto/kit/reference.ts";
import { certifiedNode } from "../../proto/tls.ts";
import { parseToken, rootDigest } from "../../proto/token.ts";
import { parseUnlockKey } from "../../proto/unlock-key.ts";
import { startFakeDaemon } from "../unit/agent/api/fakes.ts";
import { type Door, door, mutated } from "./doors.ts";

const messages: readonly MessageName[] = [
  "ToAgent",
  "FromAgent",
  "IssueCertificateRequest",
  "CreateServiceRequest",
  "FromManager",
  "Transaction",
  "InitRequest",
];

const paths = [
  ...[
    "/info",
    "/version",
    "/_ping",
    "/events",
    "/swarm",
    "/swarm/init",
    "/swarm/join",
    "/swarm/update",
    "/swarm/unlock",
    "/auth",
  ],
  ...[
    "/nodes",
    "/nodes/x",
    "/nodes/x/update",
    "/services",
    "/services/create",
    "/services/x",
    "/services/x/update",
    "/tasks",
    "/tasks/x",
  ],
  ...[
    "/networks",
    "/networks/create",
    "/networks/x",
    "/containers/json",
    "/containers/create",
    "/containers/x/json",
    "/containers/x/archive",
  ],
  ...[
    "/images/json",
    "/images/create",
    "/images/x/json",
    "/volumes",
    "/volumes/create",
    "/distribution/x/json",
    "/secrets",
    "/configs",
    "/exec/x/start",
  ],
];
const keys = fc.constantFrom(
  ...[
    "Name",
    "Spec",
    "TaskTemplate",
    "ContainerSpec",
    "Image",
    "Mode",
    "Replicated",
    "Replicas",
    "Labels",
    "Env",
    "Mounts",
    "Ports",
  ],
  ...[
    "EndpointSpec",
    "Networks",
    "Target",
    "HostConfig",
    "Cmd",
    "Version",
    "ListenAddr",
    "RemoteAddrs",
    "JoinToken",
    "UnlockKey",
    "__proto__",
    "constructor",
  ],
);
const { json } = fc.letrec<{ json: unknown }>((tie) => ({
  json: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    fc.jsonValue({ maxDepth: 1 }),
    fc.array(tie("json"), { maxLength: 3 }),
    fc
      .array(fc.tuple(keys, tie("json")), { maxLength: 5 })
      .map((pairs) => Object.fromEntries(pairs)),
  ),
}));
const word = fc.oneof(
  fc.string({ maxLength: 12 }),
  fc.constantFrom("..", "%00", "%", "a/b", "\u2028", "-1", "1e309", '{"a":["b"]}'),
);
const request = fc.record({
  method: fc.constantFrom("GET", "POST", "DELETE", "HEAD", "PUT"),
  path: fc.constantFrom(...paths),
  part: fc.option(word),
  query: fc.array(
    fc.tuple(
      fc.constantFrom("filters", "version", "all", "limit", "since", "fromImage", "name", "v", "t"),
      word,
    ),
    { maxLength: 3 },
  ),
  body: fc.oneof(
    json.map((value) => JSON.stringify(value)),
    fc.string({ maxLength: 40 }),
  ),
  version: fc.constantFrom("", "/v1.24", "/v1.50", "/v9.9", "/vx"),
});

/** 500 says that we did not expect it. Streams are left after their head. */
function restDoor(socket: string): Door {
  return door(
    "a REST request",
    5,
    request,
    async ({ method, path, part, query, body, version }) => {
      const { request: send } = await import("node:http");
      const search = query.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&");
      const whole = part === null ? path : path.replace("/x", `/${encodeURIComponent(part)}`);
      const { status, text } = await new Promise<{ status: number; text: string }>(
        (resolve, reject) => {
          const sent = send(
            {
              socketPath: socket,
              method,
              path: `${version}${whole}?${search}`,
              headers: { "content-type": "application/json" },
              agent: false,
            },
            (response) => {
              let received = "";
              const finish = () => {
                response.destroy();
                resolve({ status: response.statusCode ?? 0, text: received });
              };
              if ((response.statusCode ?? 0) < 300) return finish();
              response.on("data", (chunk: Buffer) => {
                received += chunk.toString("utf8");
              });
              response.on("end", finish);
            },
          );
          sent.on("error", reject);
          sent.end(method === "GET" || method === "HEAD" ? undefined : body);
        },
      );
      if (status === 500) throw new Error(`${method} ${whole}: ${status} ${text}`);
      if (status >= 400 && method !== "HEAD" && !/"message":"[^"]/.test(text))
        throw new Error(`${method} ${whole}: ${status} without a sentence: ${text}`);
    },
  );
}

/** Bytes that are no message are grpc's to answer (an Error of protobuf's); what is one has to be ours. */
function messageDoor(name: MessageName): Door {
  const { encode, decode, parse } = codec(name);
  const sample = encode(parse({}));
  const rich = codec("CreateServiceRequest").encode(
    codec("CreateServiceRequest").parse({
      Spec: {
        Name: "web",
        Labels: { a: "b" },
        TaskTemplate: { ContainerSpec: { Image: "i", Env: ["A=b"] } },
      },
    }),
  );
  return door(`a gRPC message ${name}`, 4, mutated([sample, rich]), (bytes) => {
    try {
      decode(bytes);
    } catch (error) {
      if (error instanceof TypeError || String(error).includes("call stack")) throw error;
    }
  });
}

export async function networkDoors(): Promise<{ doors: readonly Door[]; close(): Promise<void> }> {
  const daemon = await startFakeDaemon(true);
  const root = await createRoot(Date.now());
  const { csr } = await newKeyAndCsr();
  const token = `SWMTKN-1-${rootDigest(root.certificate)}-${"a".repeat(25)}`;
  const text = (bytes: Buffer) => bytes.toString("latin1");
  const query = dnsPacket.encode({
    type: "query",
    id: 1,
    questions: [{ type: "A", name: "web.example" }],
  });
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      config: { mediaType: "m", digest: `sha256:${"0".repeat(64)}`, size: 1 },
      layers: [],
    }),
  );
  const doors = [
    restDoor(daemon.socket),
    ...messages.map(messageDoor),
    door("a join token", 6, mutated([Buffer.from(token)]), (bytes) => parseToken(text(bytes))),
    door("an unlock key", 4, mutated([Buffer.from(`SWMKEY-1-${"A".repeat(43)}`)]), (bytes) =>
      parseUnlockKey(text(bytes)),
    ),
    door("a certificate", 3, mutated([new X509Certificate(root.certificate).raw]), (bytes) => {
      // Only what TLS has parsed gets here: what OpenSSL refuses is its own error.
      try {
        new X509Certificate(bytes);
      } catch {
        return;
      }
      certifiedNode(bytes);
    }),
    door("a certificate request", 2, mutated([Buffer.from(csr)]), (bytes) =>
      requestedKey(text(bytes)),
    ),
    door("a manifest", 6, mutated([manifest]), (bytes) => parseManifest(bytes, "web")),
    door(
      "an image's config",
      6,
      mutated([
        Buffer.from(
          '{"architecture":"amd64","os":"linux","config":{"Env":["A=b"]},"rootfs":{"type":"layers","diff_ids":[]},"history":[]}',
        ),
      ]),
      (bytes) => parseImageConfig(bytes, "web"),
    ),
    door(
      "a registry's challenge",
      5,
      fc.string({ maxLength: 200 }),
      (header) => void parseChallenge(header),
    ),
    door("an image's name", 5, fc.string({ maxLength: 80 }), (name) => void parseReference(name)),
    door("a DNS packet", 8, mutated([query]), (bytes) => {
      const parsed = parseQuery(bytes);
      if (parsed.kind === "query") encodeAddresses(parsed.query, ["10.0.0.1"], 512);
    }),
    door("a request to the keeper", 4, json, (value) => void parseRequest(value)),
  ];
  return {
    doors,
    close: async () => {
      await daemon[Symbol.asyncDispose]();
    },
  };
}
