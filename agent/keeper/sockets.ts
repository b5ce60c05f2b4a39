// Listening sockets inside a container's network namespace, as Node's own socket objects.

import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { createServer, type Server } from "node:net";
import { tcpListenerIn, udpSocketIn } from "../../proto/kit/netns.ts";
import type { NamespaceSockets } from "./dns.ts";

export const namespaceSockets: NamespaceSockets = {
  udp(namespace: string, address: string, port: number): UdpSocket {
    const socket = createSocket("udp4");
    socket.bind({ fd: udpSocketIn(namespace, address, port) });
    return socket;
  },
  tcp(namespace: string, address: string, port: number): Server {
    return createServer().listen({ fd: tcpListenerIn(namespace, address, port) });
  },
};
