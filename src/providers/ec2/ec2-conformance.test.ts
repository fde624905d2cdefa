import { after } from "node:test";
import { conformance } from "../conformance.ts";
import { open } from "./ec2.ts";
import { Amazon, motoForTests } from "./testing.ts";

const moto = await motoForTests();
const amazon = typeof moto === "string" ? null : await Amazon.start(moto.path);
if (amazon !== null) amazon.boots = true;
const options = amazon?.options() ?? {};

after(() => amazon?.close());

conformance({
  name: "ec2",
  module: new URL("ec2.ts", import.meta.url).href,
  options,
  open: (context) => {
    amazon!.guestFolders.set(context.installation, context.guestFolder);
    return open(amazon!.options(), context);
  },
  lacks: {
    exitCode: "EC2 does not tell how an instance's program ended",
    escapees: "the whole instance ends, and what plays it here cannot",
  },
  speakSeconds: 6,
  skip: typeof moto === "string" ? moto : false,
});
