// Messages read straight into plain objects, every list, map and plain scalar present: half the time of protobufjs' own message and its
// copy, and less memory, as what is empty is one object for all. Like protobufjs itself it makes a function's text of each type.

import protobuf from "protobufjs";

/** Throws on what is no such message. Only of types for which `isPlain` holds. */
export function readerOf(type: protobuf.Type): (bytes: Uint8Array) => unknown {
  const read = readOf(type);
  return (bytes) => {
    const reader = protobuf.Reader.create(bytes);
    return read(reader, reader.len, 0, undefined);
  };
}

/** Without enums, groups and required fields, and map keys are strings: as all our messages are. */
export function isPlain(type: protobuf.Type, seen = new Set<protobuf.Type>()): boolean {
  if (seen.has(type)) return true;
  seen.add(type);
  return type.fieldsArray.every((field) => {
    const { resolvedType } = field.resolve();
    if (field instanceof protobuf.MapField && field.keyType !== "string") return false;
    if (field.required || field.delimited) return false;
    if (resolvedType === null) return scalars[field.type] !== undefined;
    return resolvedType instanceof protobuf.Type && isPlain(resolvedType, seen);
  });
}

/** Reads up to `end`, into `there` if that is not undefined. */
type Read = (
  reader: protobuf.Reader,
  end: number,
  depth: number,
  there: object | undefined,
) => object;

interface Scalar {
  readonly wireType: number;
  /** As program text, of the value where there is none, and of reading one from `r`. */
  readonly initial: string;
  readonly read: string;
}

const [varint, fixed64, lengthDelimited, fixed32] = [0, 1, 2, 5] as const;
const number = (name: string, wireType: number): Scalar => ({
  wireType,
  initial: "0",
  read: `r.${name}()`,
});
const long = (name: string, wireType: number): Scalar => ({
  wireType,
  initial: "0",
  read: `Number(r.${name}())`,
});
const scalars: Readonly<Record<string, Scalar>> = {
  int32: number("int32", varint),
  uint32: number("uint32", varint),
  sint32: number("sint32", varint),
  fixed32: number("fixed32", fixed32),
  sfixed32: number("sfixed32", fixed32),
  float: number("float", fixed32),
  double: number("double", fixed64),
  int64: long("int64", varint),
  uint64: long("uint64", varint),
  sint64: long("sint64", varint),
  fixed64: long("fixed64", fixed64),
  sfixed64: long("sfixed64", fixed64),
  bool: { wireType: varint, initial: "false", read: "r.bool()" },
  string: { wireType: lengthDelimited, initial: '""', read: "r.stringVerify()" },
  bytes: { wireType: lengthDelimited, initial: "noBytes", read: "r.bytes()" },
};

/** What the texts name. Frozen: who would change what is shared is told. */
const shared = {
  noList: Object.freeze([]),
  noMap: Object.freeze({}),
  noBytes: Buffer.alloc(0),
  fail: (why: string): never => {
    throw new RangeError(why);
  },
  /** Not the prototype. */
  put: (map: Record<string, unknown>, key: string, value: unknown): void => {
    const ordinary = { enumerable: true, configurable: true, writable: true };
    if (key === "__proto__") Object.defineProperty(map, key, { value, ...ordinary });
    else map[key] = value;
  },
  noReader: protobuf.Reader.create(new Uint8Array()),
};
const depthMax = 100;

const reads = new WeakMap<protobuf.Type, { read: Read | null }>();

function readOf(type: protobuf.Type): Read {
  const known = reads.get(type);
  // Types contain each other: the one that is being made is looked up when it is needed.
  if (known !== undefined)
    return known.read ?? ((...parameters) => (known.read as Read)(...parameters));
  const made: { read: Read | null } = { read: null };
  reads.set(type, made);
  made.read = generate(type);
  return made.read;
}

function generate(type: protobuf.Type): Read {
  const scope: Record<string, unknown> = { ...shared };
  const initials: string[] = [];
  const cases: string[] = [];
  for (const field of type.fieldsArray) {
    const value = valueIn(field, scope);
    const name = JSON.stringify(field.name);
    if (field.repeated) initials.push(`${name}:noList`);
    else if (field.map) initials.push(`${name}:noMap`);
    else if (field.partOf === null) initials.push(`${name}:${value.initial}`);
    cases.push(...casesOf(field, value));
  }
  const text = `
    if(d>${depthMax})fail("nested too deep");
    var l=r.len;
    if(e>l)fail("a message ends behind what holds it");
    r.len=e;
    if(m==null)m={${initials.join()}};
    while(r.pos<e){
      var t=r.uint32();
      switch(t){${cases.join("\n")}}
      r.skipType(t&7,d,t>>>3);
    }
    if(r.pos!==e)fail("a field ends behind its message");
    r.len=l;
    return m;`;
  return protobuf.util.codegen(["r", "e", "d", "m"], type.name)(text)(scope) as unknown as Read;
}

/** `there`: the text of the message to go on with. */
interface Value {
  readonly wireType: number;
  readonly initial: string;
  readonly missing: string;
  read(there: string): string;
}

function valueIn(field: protobuf.Field, scope: Record<string, unknown>): Value {
  const { resolvedType } = field.resolve();
  if (resolvedType instanceof protobuf.Type) {
    const read = `read${field.id}`;
    scope[read] = readOf(resolvedType);
    return {
      wireType: lengthDelimited,
      initial: "null",
      missing: `${read}(noReader,0,0,undefined)`,
      read: (there) => `${read}(r,r.uint32()+r.pos,d+1,${there})`,
    };
  }
  const { wireType, initial, read } = scalars[field.type] as Scalar;
  return { wireType, initial, missing: initial, read: () => read };
}

function casesOf(field: protobuf.Field, value: Value): readonly string[] {
  const at = `m[${JSON.stringify(field.name)}]`;
  const on = (wireType: number, text: string) =>
    `case ${((field.id << 3) | wireType) >>> 0}:${text}continue;`;
  if (field.map) return [on(lengthDelimited, entryOf(at, value))];
  if (!field.repeated) return [on(value.wireType, `${at}=${value.read(at)};`)];
  const item = `if(${at}===noList)${at}=[];`;
  const one = on(value.wireType, `${item}${at}.push(${value.read("undefined")});`);
  if (value.wireType === lengthDelimited) return [one];
  const some = `${item}for(var n=r.uint32()+r.pos;r.pos<n;)${at}.push(${value.read("")});`;
  return [one, on(lengthDelimited, some)];
}

/** Key and value are a message's fields 1 and 2; either may be missing. */
function entryOf(at: string, value: Value): string {
  return `
    if(${at}===noMap)${at}={};
    var n=r.uint32()+r.pos,k="",v=undefined;
    if(n>e)fail("an entry ends behind its map");
    r.len=n;
    while(r.pos<n){
      var u=r.uint32();
      if(u===${(1 << 3) | lengthDelimited})k=r.stringVerify();
      else if(u===${(2 << 3) | value.wireType})v=${value.read("v")};
      else r.skipType(u&7,d,u>>>3);
    }
    if(r.pos!==n)fail("a field ends behind its entry");
    r.len=e;
    put(${at},k,v===undefined?${value.missing}:v);`;
}
