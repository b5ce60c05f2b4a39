// Typed objects to bytes, from bytes, and from JSON that came through a door.

import protobuf from "protobufjs";
import { schema } from "./gen/schema.ts";
import type { Messages } from "./gen/types.ts";
import { SwarmError } from "./kit/errors.ts";
import { isPlain, readerOf } from "./plain.ts";

type Name<Full extends string> = Full extends `tsswarm.${infer Short}` ? Short : never;
export type MessageName = Name<keyof Messages & string>;
export type Message<N extends MessageName> = Messages[`tsswarm.${N}` & keyof Messages];

/** What is zero may be left out where it is written. */
export type Loose<T> = T extends Uint8Array
  ? T
  : T extends readonly (infer I)[]
    ? readonly Loose<I>[]
    : T extends object
      ? { readonly [K in keyof T]?: Loose<T[K]> | undefined }
      : T;

export interface Codec<T> {
  encode(value: T): Buffer;
  /** Throws `invalid` when the bytes are not such a message. Absent lists and maps come back empty, and are not to be changed. */
  decode(bytes: Uint8Array): T;
  /**
   * From JSON: keys in any case as Go takes them, unknown ones are ignored, null counts as absent, a wrong type throws `invalid` naming the field.
   * The result has every list, map and plain scalar present.
   */
  parse(json: unknown): T;
}

export const root: protobuf.Root = protobuf.Root.fromJSON(schema as unknown as protobuf.INamespace);

const codecs = new Map<string, Codec<unknown>>();

export function codec<N extends MessageName>(name: N): Codec<Message<N>> {
  let found = codecs.get(name);
  if (found === undefined) {
    found = codecOf(root.lookupType(`tsswarm.${name}`));
    codecs.set(name, found);
  }
  return found as Codec<Message<N>>;
}

/** For a type of any schema; `codec` is the typed way to ours. */
export function codecOf(type: protobuf.Type): Codec<unknown> {
  const plain = (message: protobuf.Message): unknown => type.toObject(message, plainly);
  const isOrdinary = isPlain(type);
  const read = isOrdinary ? readerOf(type) : (bytes: Uint8Array) => plain(type.decode(bytes));
  // What has enums by their names has to be converted first.
  const message = isOrdinary
    ? (value: unknown) => value as Record<string, unknown>
    : (value: unknown) => type.fromObject(value as Record<string, unknown>);
  return {
    encode: (value) => {
      const bytes = type.encode(message(value)).finish();
      return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    },
    decode: (bytes) => {
      try {
        return read(bytes);
      } catch (error) {
        throw new SwarmError("invalid", `not a valid ${type.name} message`, { cause: error });
      }
    },
    parse: (json) => {
      if (typeof json !== "object" || json === null || Array.isArray(json))
        throw new SwarmError("invalid", `${type.name}: an object is expected`);
      const cleaned = withoutNulls(json, 0) as Record<string, unknown>;
      const wrong = correct(type, cleaned) ?? type.verify(cleaned);
      if (wrong !== null) throw new SwarmError("invalid", `${type.name}: ${wrong}`);
      return plain(type.fromObject(cleaned));
    },
  };
}

const plainly: protobuf.IConversionOptions = {
  longs: Number,
  enums: String,
  defaults: true,
  arrays: true,
  objects: true,
};
const depthMax = 32;

/** Spells keys as the schema does, in place; says where a list is in the place of an object, which protobufjs takes. */
function correct(type: protobuf.Type, value: Record<string, unknown>): string | null {
  spell(type, value);
  for (const field of type.fieldsArray) {
    const inner = value[field.name];
    const innerType = field.resolve().resolvedType;
    if (typeof inner !== "object" || inner === null) continue;
    if (field.map || !(innerType instanceof protobuf.Type)) continue;
    if (Array.isArray(inner) !== field.repeated)
      return `${field.name}: ${field.repeated ? "array" : "object"} expected`;
    for (const item of Array.isArray(inner) ? inner : [inner]) {
      if (typeof item !== "object" || item === null || Array.isArray(item))
        return `${field.name}: object expected`;
      const wrong = correct(innerType, item as Record<string, unknown>);
      if (wrong !== null) return `${field.name}.${wrong}`;
    }
  }
  return null;
}

/** Go's JSON takes a key in any case, and clients count on it: docker-py's service mode is `replicated`. */
function spell(type: protobuf.Type, value: Record<string, unknown>): void {
  for (const [key, inner] of Object.entries(value)) {
    if (type.fields[key] !== undefined) continue;
    const lower = key.toLowerCase();
    const field = type.fieldsArray.find(({ name }) => name.toLowerCase() === lower);
    if (field !== undefined && value[field.name] === undefined) value[field.name] = inner;
  }
}

function withoutNulls(value: unknown, depth: number): unknown {
  if (typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value))
    throw new SwarmError("invalid", `the number ${value} is out of range`);
  if (depth > depthMax) throw new SwarmError("invalid", `nested deeper than ${depthMax} levels`);
  if (Array.isArray(value))
    return value.filter((item) => item !== null).map((item) => withoutNulls(item, depth + 1));
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return value;
  const result: Record<string, unknown> = {};
  for (const [name, item] of Object.entries(value))
    if (item !== null && item !== undefined && name !== "__proto__")
      result[name] = withoutNulls(item, depth + 1);
  return result;
}
