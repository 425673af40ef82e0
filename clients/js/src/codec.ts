/**
 * Text from the broker to packets, and what programs publish to text (SPEC 1, 4). Knows the shape of each packet,
 * nothing of what it means.
 *
 * The surprising decision: a packet is read into a new object, field by field as the table below says, under the
 * names programs see (`message_id` → `messageId`). So nothing a broker sends gets past the table, and a `message`
 * is what its subscribers get.
 */
import type { Position } from "./types.js";

export type Packet = Record<string, any>;
type Field = readonly [name: string, key: string, kind: string, isOptional: boolean];

// A line for each type: its fields, each with the kind of its value, and `?` where it may be absent.
// $ string  # whole number  ! boolean  @ position  ^ log  { object (of the line of its name, if any)  [ array
// % bytes as base64, read as `data`  * anything
const SHAPES = new Map<string, readonly Field[]>(
  `connected connection$ node$ protocol# limits{ ping_ms# reconnect{ expires_in_ms#?
limits max_packet_bytes# max_frame_bytes# max_inflight_publishes# dedupe_window_ms#
reconnect min_ms# max_ms#
subscribed sub# after@ live!
catching_up sub# after@
caught_up sub# after@
message topic$ data*? b64%? offset# log^ pos# ts# user$? key$? headers{? message_id$?
delivery sub# message{ attempt#?
gap sub# after@ reason$ topic$? from#? to#?
published id# log^? pos#? offset#? level$? duplicate!? delayed!?
history id# messages[ complete! after@
presence id# topic$ members[ complete!
member id$ user$? state*?
joined topic$ member{ sub#?
left topic$ member{
acked id#
authorized id#? expires_in_ms#?
notice draining!? expires_in_ms#?
ping at@?
pong
error name$ message$ retry$ id#? sub#? field$? retry_after_ms#?
unsubscribed sub# name$? message$? retry$?
bye code# name$ reconnect_after_ms#? urls[?`
    .split("\n")
    .map((line) => {
      const [type, ...fields] = line.split(" ");
      return [
        type!,
        fields.map((field): Field => {
          const [, name, kind, optional] = /(\w+)(\W)(.?)/.exec(field)!;
          return [name!, kind == "%" ? "data" : camel(name!), kind!, !!optional];
        }),
      ];
    }),
);

function camel(name: string): string {
  return name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
}

const MAX_LOGS = 64; // of a position: SPEC 2.5

const isObject = (value: unknown): boolean => !!value && typeof value == "object" && !Array.isArray(value);
const isNumber = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
const isLog = (value: string): boolean => /^[a-z0-9-]{1,32}$/.test(value);

const KINDS: Record<string, (value: any) => unknown> = {
  $: (value) => typeof value == "string",
  "#": isNumber,
  "!": (value) => typeof value == "boolean",
  "@": (value) =>
    isObject(value) &&
    Object.keys(value).length <= MAX_LOGS &&
    Object.keys(value).every((log) => isLog(log) && isNumber(value[log])),
  "^": (value) => typeof value == "string" && isLog(value),
  "{": isObject,
  "[": Array.isArray,
  "%": (value) => typeof value == "string",
  "*": () => true,
};

/** A packet, or a part of one, as its table line says. Throws where it is otherwise. */
export function convert(raw: any, type: string): Packet {
  if (!isObject(raw)) throw Error("no " + type);
  const packet: Packet = { type };
  for (const [name, key, kind, isOptional] of SHAPES.get(type)!) {
    const value = raw[name];
    if (value === undefined && isOptional) continue;
    if (!KINDS[kind]!(value)) throw Error(`bad ${name} in ${type}`);
    packet[key] = kind == "%" ? toBytes(value) : kind == "{" && SHAPES.has(name) ? convert(value, name) : value;
  }
  if (type == "message" && !("data" in packet)) packet.deletesKey = true;
  return packet;
}

/** The packets in a text message, without those of unknown type (SPEC 1.8). Throws if it is not of this protocol. */
export function read(text: string): Packet[] {
  const raw = JSON.parse(text);
  return (Array.isArray(raw) ? raw : [raw]).flatMap((each) => {
    const type = each?.type;
    if (typeof type != "string") throw Error("no type");
    return SHAPES.has(type) && !/^(limits|reconnect|member)$/.test(type) ? [convert(each, type)] : [];
  });
}

const toBytes = (text: string): Uint8Array => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** `{data}`, or `{b64}` for bytes. Throws where JSON has no word for it: without data a publish may delete its key. */
export function payload(data: unknown): Packet {
  if (data instanceof ArrayBuffer) data = new Uint8Array(data);
  if (ArrayBuffer.isView(data)) {
    let text = "";
    for (const byte of new Uint8Array(data.buffer, data.byteOffset, data.byteLength)) text += String.fromCharCode(byte);
    return { b64: btoa(text) };
  }
  if (/undefined|function|symbol/.test(typeof data)) throw TypeError("data is no JSON (null is)");
  return { data };
}

/** Bytes of UTF-8. */
export const byteLength = (text: string): number => new TextEncoder().encode(text).length;

/** A position of our own, without a prototype: a log may have the name of one of its members. */
export const copy = (position?: Position): Record<string, number> => Object.assign(Object.create(null), position);

/** R4: everything of `log` up to `pos` has been had. */
export function advance(position: Record<string, number>, log: string, pos: number): void {
  if (!(log in position)) {
    // Logs that ended pile up: the oldest goes. Missing it costs a gap, nothing else.
    const logs = Object.keys(position);
    if (logs.length >= MAX_LOGS) delete position[logs[0]!];
  } else if (pos <= position[log]!) return;
  position[log] = pos;
}
