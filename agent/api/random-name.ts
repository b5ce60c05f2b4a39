// Names for services that were given none, as Docker's: an adjective and a noun.

import { randomInt } from "node:crypto";

const adjectives =
  "able amber awake bold brave brisk calm clear clever deft eager early fair fleet fond fresh gentle glad grand hardy jolly keen kind lively lucid merry mild neat nimble patient quick quiet rapid ready serene sharp silver sound steady sunny swift tidy vivid warm wise witty".split(
    " ",
  );
const nouns =
  "acorn alder anchor aspen badger beacon birch brook canyon cedar cliff comet coral crane delta ember falcon fern finch fjord forest garnet glacier harbor hazel heron island jasper juniper lagoon lark maple meadow moss orchid otter pebble pine plover quartz raven reef river robin sparrow spruce summit thistle valley willow".split(
    " ",
  );

/** `swift_heron`; a few thousand of them: may be taken. */
export function randomName(): string {
  return `${pick(adjectives)}_${pick(nouns)}`;
}

function pick(words: readonly string[]): string {
  return words[randomInt(words.length)] ?? "";
}
