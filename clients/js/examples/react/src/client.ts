/** The one client of this page: made once, outside of React, and shared by every hook. It connects at first use. */
import { Triode } from "triode";

const broker = new URLSearchParams(location.search).get("broker") ?? "ws://127.0.0.1:7400";

export const client = new Triode(broker, { name: "chat example" });
