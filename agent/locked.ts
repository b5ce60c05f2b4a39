// A node whose manager is locked: its containers go on, but nobody says what should run, and what ran can only be stopped.

import type { Session } from "./session/types.ts";

/** A session with nobody. */
export const noSession: Session = {
  wanted: null,
  async *watch(signal) {
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener("abort", () => resolve(), { once: true });
    });
  },
  report: () => {},
  acknowledge: () => {},
  onLogs: () => {},
  connected: () => false,
  close: async () => {},
};
