import assert from "node:assert/strict";
import { test } from "node:test";
import { namingFiles } from "../../../../agent/engine/container-files.ts";

test("the files of /etc that every container gets are found among its mounts, whosever they are", () => {
  const mount = (destination: string, source: string) => ({
    ...{ destination, source, type: "bind", options: ["rbind"] },
  });
  const mounts = [
    mount("/proc", "proc"),
    mount("/etc/hosts", "/c/other/hosts"),
    mount("/etc", "/x"),
  ];
  assert.deepEqual(
    namingFiles(mounts).map(({ Type, Source, Target }) => [Type, Source, Target]),
    [["bind", "/c/other/hosts", "/etc/hosts"]],
  );
});
