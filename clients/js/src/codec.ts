/**
 * Text from the broker to packets, and payloads to what JSON can say (SPEC 1, 4). Knows which fields a packet needs
 * and what kind of value each name stands for; nothing of what it means.
 *
 * The surprising decision: a packet is made anew under the names that programs see (`message_id` → `messageId`), so
 * that a message is, as it stands, what its subscribers get. Fields that nobody here knows pass through, unread.
 */
import type { Position } from "./types.js";

export type Packet = Record<string, any>;

/** What cannot be missing, by type; then by the name of a field that is a packet of its own. */
const NEEDED: Record<string, string> = {
  __proto__: null as never,
  connected: "connection limits pingMs reconnect",
  subscribed: "after",
  catching_up: "after",
  caught_up: "after",
  message: "topic log pos offset ts",
  delivery: "message",
  gap: "after",
  published: "id",
  history: "messages after",
  presence: "members",
  joined: "topic member",
  left: "topic member",
  error: "name retry",
  bye: "code",
  ping: "type",
  pong: "type",
  acked: "type",
  authorized: "type",
  notice: "type",
  traced: "hops",
  unsubscribed: "type",
  limits: "maxPacketBytes maxFrameBytes maxInflightPublishes dedupeWindowMs",
  reconnect: "minMs maxMs",
};
const NUMBERS = /^(id|sub|pos|offset|ts|from|to|code|attempt|protocol)$|(Ms|Bytes|Publishes)$/;
const MOST_LOGS = 64; // of a position (SPEC 2.5)

const isNumber = (value: any): boolean => Number.isSafeInteger(value) && value >= 0;
const isLog = (value: any): boolean => /^[a-z0-9-]{1,32}$/.test(value);
const isPosition = (value: any): boolean =>
  !Array.isArray(value) &&
  Object.keys(value).length <= MOST_LOGS &&
  Object.keys(value).every((log) => isLog(log) && isNumber(value[log]));

/** `object` under other names. */
const renamed = (object: Packet, rename: (name: string, value: any) => string): Packet =>
  Object.fromEntries(Object.entries(object).map(([name, value]) => [rename(name, value), value]));

/** `raw` as a packet of `type`. Throws where it is none. */
export function convert(raw: Packet, type: string = raw.type): Packet {
  const packet = renamed(raw, (spelled, value) => {
    // Checked under its last name: what has that one from the beginning may not slip through.
    const name = spelled.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
    if (NUMBERS.test(name) ? !isNumber(value) : /^a(fter|t)$/.test(name) ? !isPosition(value) : name == "log" && !isLog(value))
      throw Error("bad " + name);
    return name;
  });
  for (const key of NEEDED[type]!.split(" ")) if (!(key in packet)) throw Error(`${type} without ${key}`);
  if ("b64" in packet) {
    packet.data = Uint8Array.from(atob(packet.b64), (letter) => letter.charCodeAt(0));
    delete packet.b64;
  }
  if (type == "message" && !("data" in packet)) packet.deletesKey = true;
  return packet;
}

/** What programs say, under the names of the protocol. */
export const spoken = (options: object): Packet =>
  renamed(options, (name) => name.replace(/[A-Z]/g, (letter) => "_" + letter.toLowerCase()));

/** The packets in a text message, without those of unknown type (SPEC 1.8). Throws if it is not of this protocol. */
export function decode(text: string): Packet[] {
  return [JSON.parse(text)].flat().flatMap((raw) => {
    if (typeof raw.type != "string") throw Error("no type");
    return NEEDED[raw.type] ? [convert(raw)] : [];
  });
}

/** `{data}`, or `{b64}` for bytes. Throws where JSON has no word for it: without data a publish may delete its key. */
export function payload(data: any): Packet {
  if (data instanceof ArrayBuffer) data = new Uint8Array(data);
  if (ArrayBuffer.isView(data)) {
    let text = "";
    for (const byte of data as Uint8Array) text += String.fromCharCode(byte);
    return { b64: btoa(text) };
  }
  if (JSON.stringify(data) === undefined) throw TypeError("data is no JSON (null is)");
  return { data };
}

/** As JSON text. Throws where half a surrogate pair is in it: such text is no UTF-8, and the broker would not read any
 * packet that leaves with it. */
export function toText(packet: unknown): string {
  const text = JSON.stringify(packet);
  if (/\\ud[89a-f]/.test(text.replace(/\\\\/g, ""))) throw TypeError("half a surrogate pair");
  return text;
}

/** `value` as it is now; throws where it is no JSON. */
export const snapshot = (value: unknown): any => JSON.parse(JSON.stringify(value));

/** Bytes of UTF-8. */
export const byteLength = (text: string): number => new TextEncoder().encode(text).length;

/** A position of our own, without a prototype: a log may have the name of one of its members. */
export const copy = (position?: Position): Record<string, number> => ({ __proto__: null, ...position }) as any;

/** R1, R4: where one stands who has had `item`: a message, or what says after what it goes on. */
export const moved = (position: Record<string, number>, { log, pos, after }: Packet): Record<string, number> =>
  log ? advance(position, log, pos) : after ? copy(after) : position;

/** R4: everything of `log` up to `pos` has been had. */
export function advance(position: Record<string, number>, log: string, pos: number): Record<string, number> {
  const logs = Object.keys(position);
  // Logs that ended pile up: the oldest goes. Missing it costs a gap, nothing else.
  if (!(log in position) && logs.length >= MOST_LOGS) delete position[logs[0]!];
  position[log] = Math.max(position[log] ?? 0, pos);
  return position;
}
