// Who a container's process is: `user`, `uid`, `user:group`, looked up in the image's own files. Pure.

import { SwarmError } from "../../proto/kit/errors.ts";
import type { SpecUser } from "../runtime/spec-types.ts";

/** The image's /etc/passwd and /etc/group, "" where it has none. */
export interface UserFiles {
  readonly passwd: string;
  readonly group: string;
}

const idMax = 2 ** 31 - 1;

/** Groups beyond the primary one come from the image for a user that it knows by name or id. Throws `invalid`. */
export function findUser(
  wanted: string,
  groupsAdded: readonly string[],
  files: UserFiles,
): SpecUser {
  const [userPart = "", groupPart] = wanted.split(":");
  const userText = userPart === "" ? "0" : userPart;
  const users = rows(files.passwd).map(([name = "", , uid = "", gid = ""]) => ({
    name,
    uid: Number(uid),
    gid: Number(gid),
  }));
  const groups = rows(files.group).map(([name = "", , gid = "", members = ""]) => ({
    name,
    gid: Number(gid),
    members: members.split(","),
  }));
  const id = idOf(userText);
  const user = users.find((u) => u.name === userText) ?? users.find((u) => u.uid === id);
  if (user === undefined && id === null)
    throw new SwarmError(
      "invalid",
      `unable to find user ${userText}: no matching entries in passwd file`,
    );
  const groupId = (text: string): number => {
    const gid = groups.find((g) => g.name === text)?.gid ?? idOf(text);
    if (gid === null)
      throw new SwarmError(
        "invalid",
        `unable to find group ${text}: no matching entries in group file`,
      );
    return gid;
  };
  const gid = groupPart ? groupId(groupPart) : (user?.gid ?? 0);
  const supplementary = new Set<number>(groupsAdded.map(groupId));
  if (user !== undefined && !groupPart)
    for (const group of groups) if (group.members.includes(user.name)) supplementary.add(group.gid);
  return {
    uid: user?.uid ?? id ?? 0,
    gid,
    additionalGids: [...new Set([gid, ...supplementary])].sort((a, b) => a - b),
  };
}

function rows(text: string): readonly string[][] {
  return text
    .split("\n")
    .filter((line) => line.includes(":") && !line.startsWith("#"))
    .map((line) => line.trim().split(":"));
}

function idOf(text: string): number | null {
  if (!/^\d+$/.test(text)) return null;
  const id = Number(text);
  return id <= idMax ? id : null;
}
