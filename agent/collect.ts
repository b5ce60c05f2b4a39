// Which images of tasks go when nothing uses them any more: those not used for long, and the oldest when the disk fills. Pure.

export interface CollectLimits {
  /** Not used for so long: it goes. 0: age alone takes none. */
  readonly ageMsMax: number;
  /** Used within this: it stays, whatever the disk is like. */
  readonly ageMsMin: number;
  /** From this fill on, down to the lower one. */
  readonly percentHigh: number;
  readonly percentLow: number;
}

export interface KnownImage {
  readonly id: string;
  readonly bytes: number;
  readonly tags: readonly string[];
  /** A container is made of it. */
  readonly isUsed: boolean;
}

/** What was pulled for a task, when it was not here before. */
export interface TaskImage {
  /** Milliseconds since 1970, of the last look at which something used it. */
  readonly usedAt: number;
  /** The tags it had then: with another one it is somebody's own. */
  readonly tags: readonly string[];
}

export interface Disk {
  readonly bytes: number;
  readonly freeBytes: number;
}

export interface Collected {
  readonly id: string;
  readonly bytes: number;
  readonly why: "age" | "disk";
}

/** Images that were pulled for tasks alone, and that nothing uses now. */
export function unused(
  images: readonly KnownImage[],
  ofTasks: ReadonlyMap<string, TaskImage>,
): readonly (KnownImage & TaskImage)[] {
  return images.flatMap((image) => {
    const known = ofTasks.get(image.id);
    if (known === undefined || image.isUsed) return [];
    return image.tags.every((tag) => known.tags.includes(tag))
      ? [{ ...image, usedAt: known.usedAt }]
      : [];
  });
}

/** Those that go now, the longest unused first. */
export function collect(
  images: readonly KnownImage[],
  ofTasks: ReadonlyMap<string, TaskImage>,
  disk: Disk,
  limits: CollectLimits,
  now: number,
): readonly Collected[] {
  const { ageMsMax, ageMsMin, percentHigh, percentLow } = limits;
  const isFull = percentOf(disk) >= percentHigh;
  let missing = isFull ? disk.bytes * (1 - percentLow / 100) - disk.freeBytes : 0;
  const going: Collected[] = [];
  const candidates = unused(images, ofTasks).filter(({ usedAt }) => now - usedAt >= ageMsMin);
  for (const { id, bytes, usedAt } of candidates.toSorted((a, b) => a.usedAt - b.usedAt)) {
    const isOld = ageMsMax > 0 && now - usedAt >= ageMsMax;
    if (!isOld && missing <= 0) continue;
    missing -= bytes;
    going.push({ id, bytes, why: isOld ? "age" : "disk" });
  }
  return going;
}

/** How full it is. */
export function percentOf({ bytes, freeBytes }: Disk): number {
  return bytes === 0 ? 0 : 100 * (1 - freeBytes / bytes);
}
