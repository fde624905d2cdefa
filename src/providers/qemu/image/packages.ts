export interface Package {
  readonly name: string;
  readonly version: string;
  /** Unpacked; what dpkg knows, in steps of 1 KiB. */
  readonly bytes: number;
}

/** The installed packages in dpkg's status file, or those that a package's control file describes. */
export function readPackages(status: string): Package[] {
  const packages: Package[] = [];
  for (const paragraph of status.split(/\n{2,}/)) {
    const field = (name: string) => new RegExp(`^${name}: (.*)$`, "m").exec(paragraph)?.[1];
    const name = field("Package");
    if (name === undefined) continue;
    if (!(field("Status") ?? "ok installed").endsWith("ok installed")) continue;
    const bytes = Number(field("Installed-Size") ?? 0) * 1024;
    packages.push({ name, version: field("Version") ?? "", bytes });
  }
  return packages;
}
