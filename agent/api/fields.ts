// Fields of request bodies that may be missing or null, as Docker takes them: then they are empty.

import { z } from "zod";

export const text = z
  .string()
  .nullish()
  .transform((value) => value ?? "");

export const texts = z
  .array(z.string())
  .nullish()
  .transform((value) => value ?? []);

export const flag = z
  .boolean()
  .nullish()
  .transform((value) => value ?? false);

export const map = z
  .record(z.string(), z.string())
  .nullish()
  .transform((value) => value ?? {});
