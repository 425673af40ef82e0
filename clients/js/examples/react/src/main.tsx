/** Who are you, and in which room? */
import { StrictMode, useState, useSyncExternalStore, type FormEvent } from "react";
import { createRoot } from "react-dom/client";
import { Room } from "./room";
import "./main.css";

const onHash = (notify: () => void) => {
  addEventListener("hashchange", notify);
  return () => removeEventListener("hashchange", notify);
};

function Door({ enter }: { enter: (name: string) => void }) {
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const name = String(new FormData(event.currentTarget).get("name")).trim();
    if (name) enter(name);
  };
  return (
    <form className="door" onSubmit={submit}>
      <h1>Triode chat</h1>
      <label>
        Your name <input name="name" autoFocus autoComplete="nickname" maxLength={40} required />
      </label>
      <button>Come in</button>
    </form>
  );
}

function App() {
  const [name, setName] = useState(() => sessionStorage.getItem("name") ?? "");
  // A level of a topic: no slash and no wildcard.
  const room = useSyncExternalStore(onHash, () => location.hash.replace(/[#+/$]/g, "")) || "general";
  const enter = (name: string) => {
    sessionStorage.setItem("name", name);
    setName(name);
  };
  return name ? <Room key={room} room={room} name={name} /> : <Door enter={enter} />;
}

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
