// Codecs of BuildKit's messages.

import protobuf from "protobufjs";
import { type Codec, codecOf, type Loose } from "../../proto/codec.ts";
import { schema } from "../../proto/gen/buildkit-schema.ts";
import type { Messages } from "../../proto/gen/buildkit-types.ts";

const root = protobuf.Root.fromJSON(schema as unknown as protobuf.INamespace);

export interface LooseCodec<T> {
  encode(value: Loose<T>): Buffer;
  decode(bytes: Uint8Array): T;
}

export function messages<N extends keyof Messages & string>(name: N): LooseCodec<Messages[N]> {
  return codecOf(root.lookupType(name)) as Codec<unknown> as LooseCodec<Messages[N]>;
}

export const packets = messages("fsutil.types.Packet");
