/**
 * What a machine must run. A forge's own runner and a native job's guest are both Programs, so a
 * provider never knows which forge it serves.
 */
export interface Program {
  readonly files: readonly ProgramFile[];
  /**
   * Run as given, never through a shell. `{program}` stands for the folder of the files and
   * `{guest}` for the guests' socket, both as the machine sees them.
   */
  readonly command: readonly string[];
  /** The only variables of ours that the machine sees; `{program}` and `{guest}` hold here too. */
  readonly environment: Readonly<Record<string, string>>;
  /** After this the machine ends itself, whatever else happens. Seconds from its start. */
  readonly deadlineSeconds: number;
}

export interface ProgramFile {
  /** Relative, below the program's folder; no `..`. */
  readonly path: string;
  readonly mode: number;
  readonly content: string;
}
