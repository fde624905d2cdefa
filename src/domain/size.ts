export type Architecture = "x64" | "arm64";

/** What a machine has. Every number is at least what the job gets. */
export interface Size {
  readonly cpu: number;
  readonly memoryMb: number;
  readonly diskGb: number;
  readonly gpu: number;
  readonly architecture: Architecture;
}
