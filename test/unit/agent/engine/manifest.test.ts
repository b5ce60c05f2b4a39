import assert from "node:assert/strict";
import { test } from "node:test";
import { chainIds } from "../../../../agent/engine/images.ts";
import {
  choosePlatform,
  type Index,
  ownPlatform,
  parseImageConfig,
  parseManifest,
} from "../../../../agent/engine/manifest.ts";

const mediaType = "application/vnd.oci.image.manifest.v1+json";
const digestOf = (letter: string) => `sha256:${letter.repeat(64)}`;
const json = (value: unknown) => Buffer.from(JSON.stringify(value));

function indexOf(...platforms: readonly (readonly [string, string, string])[]): Index {
  return {
    kind: "index",
    manifests: platforms.map(([os, architecture, variant], at) => ({
      mediaType,
      digest: digestOf(String.fromCharCode(97 + at)),
      size: 1,
      platform: { os, architecture, variant },
    })),
  };
}

const rows = [
  {
    name: "the machine's own",
    index: indexOf(["windows", "amd64", ""], ["linux", "amd64", ""]),
    own: "x64",
    chosen: "b",
  },
  {
    name: "the exact variant",
    index: indexOf(["linux", "arm", "v6"], ["linux", "arm", "v7"]),
    own: "arm",
    chosen: "b",
  },
  {
    name: "any variant rather than none",
    index: indexOf(["linux", "arm", "v6"]),
    own: "arm",
    chosen: "a",
  },
  {
    name: "no attestation",
    index: indexOf(["unknown", "unknown", ""], ["linux", "arm64", ""]),
    own: "arm64",
    chosen: "b",
  },
  {
    name: "nothing for a stranger",
    index: indexOf(["linux", "amd64", ""]),
    own: "riscv64",
    chosen: "",
  },
];
for (const row of rows)
  test(`of an index is chosen: ${row.name}`, () => {
    const chosen = choosePlatform(row.index, ownPlatform(row.own));
    assert.equal(chosen?.digest ?? "", row.chosen === "" ? "" : digestOf(row.chosen));
  });

test("manifests and indexes are told apart", () => {
  const config = { mediaType: "c", digest: digestOf("c"), size: 2 };
  const manifest = parseManifest(
    json({ schemaVersion: 2, mediaType, config, layers: [config] }),
    "x",
  );
  assert.equal(manifest.kind, "manifest");
  const index = parseManifest(
    json({ manifests: [{ mediaType, digest: digestOf("d"), size: 1 }] }),
    "x",
  );
  assert.equal(index.kind, "index");
});

for (const [what, body] of [
  ["not JSON", Buffer.from("<html>")],
  [
    "a path for a digest",
    json({ config: { mediaType: "c", digest: "../../x", size: 1 }, layers: [] }),
  ],
  [
    "a negative size",
    json({ config: { mediaType: "c", digest: digestOf("c"), size: -1 }, layers: [] }),
  ],
  ["schema 1", json({ schemaVersion: 1, fsLayers: [] })],
] as const)
  test(`a manifest with ${what} is refused`, () => {
    assert.throws(() => parseManifest(body, "web:1"), /web:1/);
  });

test("a configuration with nulls everywhere is an empty one", () => {
  const image = parseImageConfig(
    json({ rootfs: { diff_ids: null }, config: { Env: null, Cmd: null, Healthcheck: null } }),
    "x",
  );
  assert.deepEqual([image.diffIds, image.config.Env, image.config.Cmd], [[], [], []]);
  assert.equal(image.config.Healthcheck, null);
});

test("the first chain id is the layer's own, the next depend on all below", () => {
  const chain = chainIds([digestOf("1"), digestOf("2"), digestOf("3")]);
  assert.equal(chain[0], digestOf("1"));
  assert.equal(new Set(chain).size, 3);
  assert.deepEqual(chainIds([digestOf("1"), digestOf("2")]), chain.slice(0, 2));
});
