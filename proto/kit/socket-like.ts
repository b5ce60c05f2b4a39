// A stream that is no socket, but over which node:http speaks.

import { Duplex } from "node:stream";

/** What http asks of a socket beyond a stream has no meaning here. */
export class SocketLike extends Duplex {
  setTimeout(): this {
    return this;
  }
  setNoDelay(): this {
    return this;
  }
  setKeepAlive(): this {
    return this;
  }
  ref(): this {
    return this;
  }
  unref(): this {
    return this;
  }
}
