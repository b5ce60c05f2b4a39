// A small cluster as the managers would describe it.

import type { ClusterView, Sandbox } from "../../../../agent/network/types.ts";

export function networkObject(
  ID: string,
  Name: string,
  subnets: readonly string[],
  more: { readonly ingress?: boolean; readonly internal?: boolean; readonly vni?: number } = {},
): ClusterView["networks"][number] {
  return {
    ID,
    CreatedAt: "",
    UpdatedAt: "",
    VNI: more.vni ?? 4097,
    Spec: {
      ...{ Name, Labels: {}, Driver: "overlay", Options: {}, Scope: "swarm" },
      ...{ Internal: more.internal ?? false, Ingress: more.ingress ?? false },
      ...{ Attachable: false, EnableIPv6: false },
    },
    IPAM: {
      Driver: "default",
      Options: {},
      Config: subnets.map((Subnet) => ({
        Subnet,
        Gateway: Subnet.replace(/0?\/\d+$/, "1"),
        IPRange: "",
        AuxiliaryAddresses: {},
      })),
    },
  };
}

export function peer(index: number): ClusterView["peers"][number] {
  const address = `192.0.2.${index}`;
  return { NodeID: `node${index}`, Hostname: `h${index}`, Index: index, DataPathAddr: address };
}

export function endpoint(
  last: number,
  node: number,
  more: Partial<ClusterView["endpoints"][number]> = {},
): ClusterView["endpoints"][number] {
  return {
    ...{ NetworkID: "net", ServiceID: "web", TaskID: `task${last}`, NodeID: `node${node}` },
    ...{ NodeIndex: node, Addresses: [`10.0.1.${last}`], State: "serving" },
    ...{ Names: [`web.${last}`, `web.${last}.task${last}`], Aliases: [] },
    ...more,
  };
}

export function service(
  more: Partial<ClusterView["services"][number]> = {},
): ClusterView["services"][number] {
  return {
    ...{ NetworkID: "net", ServiceID: "web", Name: "web", VirtualIPs: ["10.0.1.2"] },
    ...{ Aliases: [], Ports: [] },
    ...more,
  };
}

export function clusterView(more: Partial<ClusterView> = {}): ClusterView {
  return {
    self: { nodeId: "node1", index: 1, dataPathAddr: "192.0.2.1", dataPathPort: 4789 },
    networks: [networkObject("net", "backend", ["10.0.1.0/24"])],
    peers: [peer(1), peer(2)],
    services: [service()],
    endpoints: [endpoint(5, 1), endpoint(6, 2)],
    ...more,
  };
}

export function sandbox(
  id: string,
  address: string | readonly string[],
  more: Partial<Sandbox> = {},
): Sandbox {
  return {
    id,
    attachments: [{ networkId: "net", addresses: [address].flat() }],
    ports: [],
    upstreamNameServers: [],
    searchDomains: [],
    ...more,
  };
}
