// Compares what is in the kernel and the keeper with what should be, one namespace at a time, and has it put right: when
// asked, and by itself now and then.

import { setImmediate as nextTurn } from "node:timers/promises";
import { messageOf } from "../../proto/kit/errors.ts";
import type { Log } from "../../proto/kit/log.ts";
import { inNamespace, isNamespace } from "../../proto/kit/netns.ts";
import type { World } from "../../proto/kit/world.ts";
import { listLinks, listObjects, type NamespaceState, readSysctl } from "./apply.ts";
import {
  linkDifferences,
  missing,
  nameDifferences,
  objectDifferences,
  settingDifferences,
} from "./differences.ts";
import { RuleCheck } from "./rule-check.ts";
import { withSocket } from "./socket.ts";
import type { Difference } from "./types.ts";
import type { Wish } from "./wishes.ts";

const everyMs = 60_000;
/** Of a wave of reconnects only the first checks at once. */
const restMs = 2_000;
const loggedMax = 20;

/** A namespace's path, null for the host's. */
export type Place = string | null;

export interface Damage {
  readonly places: readonly Place[];
  /** Those of the places where rules are wrong. */
  readonly rules: ReadonlySet<Place>;
  readonly names: boolean;
}

/** Whose state is checked. */
export interface Patient {
  /** Empty as long as it is not known what should be. */
  places(): readonly Place[];
  /** What should be there by now; null where nothing should. */
  wish(place: Place): Promise<Wish | null>;
  /** Of a namespace that is kept in mind; null for containers', which are not. */
  state(place: Place): NamespaceState | null;
  /** By name, digests of what the keeper should hold and what it holds; null: it cannot be asked. */
  names(): Promise<{
    readonly wanted: ReadonlyMap<string, string>;
    readonly actual: Readonly<Record<string, string>>;
  } | null>;
  /** Makes agree what is damaged. */
  heal(damage: Damage): Promise<void>;
  /** Between two changes: what runs here sees none half done. */
  serially<T>(work: () => Promise<T>): Promise<T>;
}

export class Check {
  readonly #patient: Patient;
  readonly #rules: RuleCheck;
  readonly #log: Log;
  #wake: () => void = () => {};
  #isAsked = false;

  /** `scratch`: see RuleCheck. */
  constructor(patient: Patient, scratch: string, log: Log) {
    this.#patient = patient;
    this.#rules = new RuleCheck(scratch);
    this.#log = log;
  }

  async check(): Promise<readonly Difference[]> {
    return (await this.#look()).differences;
  }

  async repair(): Promise<readonly Difference[]> {
    const { differences, damage } = await this.#look();
    if (differences.length === 0) return differences;
    for (const { sentence } of differences.slice(0, loggedMax))
      this.#log.warn({ difference: sentence }, "the network is not as it should be");
    const count = differences.length;
    try {
      await this.#patient.serially(() => this.#patient.heal(damage));
      this.#log.warn({ differences: count }, "the network was put right");
    } catch (error) {
      // The rest is put right all the same: a port that a program has is such an error. What is left, the next look tells.
      this.#log.warn({ differences: count, error: messageOf(error) }, "not all was put right");
    }
    return differences;
  }

  checkSoon(): void {
    this.#isAsked = true;
    this.#wake();
  }

  /** Repairs at an uneven interval of a minute or so, and soon after being asked to. */
  async run(world: World, signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.#rest(everyMs * (0.75 + world.random() / 2), world, signal);
      this.#isAsked = false;
      try {
        await this.repair();
      } catch (error) {
        if (signal.aborted) throw error;
        this.#log.warn({ error: messageOf(error) }, "the network could not be checked or repaired");
      }
      await world.sleep(restMs, signal);
    }
  }

  async #rest(ms: number, world: World, signal: AbortSignal): Promise<void> {
    if (this.#isAsked) return;
    const done = new AbortController();
    const asked = new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    const over = world.sleep(ms, AbortSignal.any([signal, done.signal]));
    over.catch(() => {});
    await Promise.race([asked, over]);
    done.abort();
    signal.throwIfAborted();
  }

  /** Each namespace in a step of its own, so that a change waits for one of them at most. */
  async #look(): Promise<{ differences: readonly Difference[]; damage: Damage }> {
    const patient = this.#patient;
    const differences: Difference[] = [];
    const damaged: Place[] = [];
    const rules = new Set<Place>();
    const all = patient.places();
    this.#rules.keepOnly(new Set(all));
    for (const place of all) {
      const found = await patient.serially(() => this.#lookAt(place));
      if (found.length > 0) damaged.push(place);
      if (found.some(({ what }) => ofRules.has(what))) rules.add(place);
      differences.push(...found);
      await nextTurn();
    }
    const told = all.length === 0 ? null : await patient.serially(() => patient.names());
    const wrongNames = told === null ? [] : nameDifferences(told.wanted, told.actual);
    differences.push(...wrongNames);
    return { differences, damage: { places: damaged, rules, names: wrongNames.length > 0 } };
  }

  async #lookAt(place: Place): Promise<readonly Difference[]> {
    const wish = await this.#patient.wish(place);
    if (wish === null) return [];
    const { where } = wish;
    if (place !== null && !isNamespace(place)) return [missing(where, "namespace", place)];
    const ofKernel = withSocket(place, (socket) => {
      const links = listLinks(socket);
      const names = new Set(links.map(({ name }) => name));
      const context = { links: names, strays: wish.isOurs };
      return [
        ...linkDifferences(where, wish.links, links),
        ...objectDifferences(where, wish.objects, listObjects(socket, links), context),
      ];
    });
    return [
      ...ofKernel,
      ...settingDifferences(where, wish.settings, readSettings(place, wish.settings)),
      ...this.#rules.compare(place, where, wish.tables, this.#patient.state(place)),
    ];
  }
}

const ofRules: ReadonlySet<Difference["what"]> = new Set([
  "namespace",
  "link",
  "table",
  "chain",
  "set",
  "map",
]);

function readSettings(
  place: Place,
  wanted: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const read = () => {
    const found: Record<string, string> = {};
    for (const key of Object.keys(wanted)) {
      const value = readSysctl(key);
      // Not there: its link is missing, or this kernel has no such thing.
      if (value !== "") found[key] = value;
    }
    return found;
  };
  return place === null ? read() : inNamespace(place, read);
}
