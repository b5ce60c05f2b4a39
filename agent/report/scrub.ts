// The last look at what leaves in a report: whatever has the shape of a secret is blotted out, wherever it stands. Pure.

const blot = "[left out]";

/** What gives access: join tokens, unlock keys, private keys, credentials in URLs and headers. Bounded: a page may be one long word. */
const shapes: readonly (readonly [RegExp, string])[] = [
  [/SWM(TKN|KEY)-1-[\w-]+/g, blot],
  [/-----BEGIN ([A-Z ]{0,20}PRIVATE KEY)-----[\s\S]*?(-----END \1-----|$)/g, blot],
  [/(\b[a-z][\w+.-]{0,20}:\/\/)[^/\s"'@]+@/gi, `$1${blot}@`],
  [/\b(Bearer|Basic)\s+[\w+/.=~-]{8,}/gi, `$1 ${blot}`],
  [
    /((?:"[^"\n]*(?:password|passwd|secret|token|api-?key|credential|authorization)"|(?<![\w-])[\w-]{0,64}(?:password|passwd|token|api[-_]?key))\s*[:=]\s*)("(?:[^"\\\n]|\\.)*"|[^\s,"'}\]]+)/gi,
    `$1"${blot}"`,
  ],
];

export function scrub(text: string): string {
  return shapes.reduce((clean, [shape, instead]) => clean.replace(shape, instead), text);
}
