import type { Size } from "../domain/size.ts";

const gbMb = 1024;
const diskGb = 10;

/** The machine of a job that asks for nothing: half of what is here, and at least 1 cpu and 1 GB. */
export function halfOf(machine: Size): Size {
  return {
    cpu: Math.max(1, Math.floor(machine.cpu / 2)),
    // In whole gigabytes: nobody asks for 12052 MB.
    memoryMb: Math.max(1, Math.floor(machine.memoryMb / 2 / gbMb)) * gbMb,
    diskGb: Math.min(diskGb, Math.max(1, Math.floor(machine.diskGb / 2))),
    gpu: 0,
    architecture: machine.architecture,
  };
}

/** How many machines of `size` this one holds by cpu and memory; at least one. */
export function fitsTimes(size: Size, machine: Size): number {
  return Math.max(
    1,
    Math.min(Math.floor(machine.cpu / size.cpu), Math.floor(machine.memoryMb / size.memoryMb)),
  );
}
