// What a cluster allows, as labels of it: labels stay when Docker's own command updates the cluster.

/** "true" lets services be privileged. */
export const privilegedLabel = "tsswarm.allow-privileged";
