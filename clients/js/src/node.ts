/**
 * The package's entry for Node.js, which has a WebSocket of its own from version 22. Where there is none the package
 * `ws` is loaded, if it is installed.
 *
 * The surprising decision: `ws` is loaded when the first connection is dialled, not before, so that nobody needs it
 * who brings another transport. Until it is there, a socket that is not one yet stands in.
 */
import { Client as Implementation } from "./client.js";
import type { Client, Options, Socket, TriodeConstructor } from "./types.js";

export { TriodeError } from "./errors.js";
export type * from "./types.js";

const MISSING = 4000; // a close code that says not to try again
const CLOSE_MS = 2_000; // for the answer to a close: a broker that is gone must not keep the process alive

/** What `ws` makes, once it is loaded; until then its place. */
class LateSocket implements Socket {
  onopen: Socket["onopen"] = null;
  onmessage: Socket["onmessage"] = null;
  onerror: Socket["onerror"] = null;
  onclose: Socket["onclose"] = null;
  private socket_: Socket | undefined;
  private isClosed_ = false;

  constructor(url: string, protocol: string) {
    import("ws").then(
      ({ WebSocket }) => {
        if (!this.isClosed_) this.open_(new WebSocket(url, protocol, { closeTimeout: CLOSE_MS } as object));
      },
      () => {
        const reason = "this Node.js has no WebSocket: npm install ws, or use Node.js 22";
        this.onclose?.({ code: MISSING, reason });
      },
    );
  }

  private open_(socket: Socket): void {
    this.socket_ = socket;
    socket.onopen = (event) => this.onopen?.(event);
    socket.onmessage = (event) => this.onmessage?.(event);
    socket.onerror = (event) => this.onerror?.(event);
    socket.onclose = (event) => this.onclose?.(event);
  }

  get readyState(): number {
    return this.socket_?.readyState ?? 0;
  }

  get bufferedAmount(): number {
    return this.socket_?.bufferedAmount ?? 0;
  }

  send(text: string): void {
    this.socket_!.send(text);
  }

  close(code?: number): void {
    this.isClosed_ = true;
    this.socket_?.close(code);
  }
}

const late = (url: string, protocol: string): Socket => new LateSocket(url, protocol);

function NodeClient(this: object, url: string | readonly string[], options: Options = {}): void {
  const isOwn = options.transport || globalThis.WebSocket;
  // A dial of ours is no program's own: what may go round a WebSocket may go round this one.
  const { transports = ["ws", "sse"] } = options;
  Implementation.call(this, url, isOwn ? options : { ...options, transports, transport: late });
}

/** `new Triode(url, options)`: the client. */
export const Triode = NodeClient as unknown as TriodeConstructor;
/** What `new Triode` makes. */
export type Triode = Client;
