import { conformance } from "../conformance.ts";
import { FakeProvider } from "./fake.ts";

const inMemory = "its machines are only kept in mind";

conformance({
  name: "fake",
  module: "",
  options: {},
  open: async ({ name, installation }) => {
    const after = (ms: number, fn: () => void) => {
      const timer = setTimeout(fn, ms);
      return () => clearTimeout(timer);
    };
    return new FakeProvider({ name, installation, clock: { now: () => Date.now(), after } });
  },
  lacks: { guest: inMemory, image: inMemory, survival: inMemory },
});
