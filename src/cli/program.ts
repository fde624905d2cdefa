import { Command, Option } from "commander";

/** Flags of every command. */
export interface CommonFlags {
  readonly json?: true;
  readonly debug?: true;
}

/** Flags of every command that asks a running Mayfly. */
export interface ClientFlags extends CommonFlags {
  readonly server?: string;
  readonly state?: string;
}

/** What a command's module exports; loaded when the command is called, and not before. */
type Run<A extends unknown[]> = { run: (...args: A) => Promise<number> };

/**
 * The whole command line. `finish` takes a command's exit status. Nothing but its words is loaded
 * here, so that asking for help is quick.
 */
export function program(version: () => string, finish: (status: number) => void): Command {
  const root = new Command("mayfly")
    .description("Gives every CI job a machine of its own that lives for that one job.")
    .usage("COMMAND [OPTIONS]")
    .helpCommand(false)
    .showSuggestionAfterError()
    .configureOutput({
      outputError: (text, write) => write(text.replace(/^error: /, "mayfly: ")),
    })
    .showHelpAfterError("(mayfly --help lists what there is)")
    .configureHelp({ sortSubcommands: false });
  root.option("-V, --version", "show the version").on("option:version", () => {
    process.stdout.write(`${version()}\n`);
    process.exit(0);
  });

  const lazily =
    <A extends unknown[]>(load: () => Promise<Run<A>>) =>
    async (...args: unknown[]): Promise<void> => {
      const { run } = await load();
      // Commander gives a command's arguments, its options, and at last the command itself.
      finish(await run(...(args.slice(0, -1) as A)));
    };

  const add = (usage: string, what: string): Command => root.command(usage).description(what);
  // Last, so that help begins with what is a command's own.
  const common = (command: Command): Command =>
    command
      .option("--json", "print JSON, in the API's shapes")
      .addOption(new Option("--debug", "show where an error came from").hideHelp());
  const asking = (command: Command): Command =>
    common(
      command
        .option("--server <url>", "the Mayfly to ask (or MAYFLY_SERVER; http://127.0.0.1:8420)")
        .option("--state <dir>", "a local server's state folder, for its token"),
    );
  const listing = (command: Command): Command =>
    asking(
      command
        .option("--pool <name>", "only of this pool")
        .option("--limit <number>", "at most so many, up to 500 (30)"),
    );
  const job = "the job; its first letters are enough";
  const configFile = "the configuration (mayfly.yaml here, or every default)";

  common(
    add("up", "start Mayfly here, and stay until it is stopped")
      .option("--config <file>", configFile)
      .option("--state <dir>", "the folder that holds everything")
      .option("--listen <address>", "where the pages and the API listen (127.0.0.1:8420)")
      .option("--example", "run the example job, as on a first start without configuration")
      .option("--no-example", "do not, even then"),
  ).action(lazily(() => import("./up.ts")));

  common(
    add("init", "set up a forge: ask what is needed, try it there, add it to mayfly.yaml")
      .argument("<forge>", "github, gitea or forgejo")
      .option("--url <url>", "its address; for GitHub with the organisation or repository")
      .option("--scope <scope>", "ORGANISATION, OWNER/REPOSITORY, @me or @server (@server)")
      .option("--token <place>", "its token: env:NAME or file:PATH (typed; GitHub: an App is made)")
      .option("--name <name>", "what Mayfly calls it (by its address)")
      .option("--label <label>", "what its jobs ask for; may be repeated", more)
      .option("--accept <class>", "whose jobs: trusted, fork; may be repeated (trusted)", more)
      .option("--reach <url>", "where it reaches this Mayfly, for webhooks (none: jobs are polled)")
      .option("--rerun", "GitHub's App may also run jobs again whose spot machine was taken back")
      .option("--port <number>", "where the page for the App is, on 127.0.0.1 (any)")
      .option("--config <file>", "the configuration to add to (mayfly.yaml here)")
      .option("--state <dir>", "the folder that holds everything"),
  ).action(lazily(() => import("./init.ts")));

  asking(
    add("submit", "run a command on a repository in a machine of its own")
      .usage("[options] [-- command...]")
      .argument("[command...]", "the program and its arguments, after --; else the target `test`")
      .option("--repo <path|url>", "the repository (the one around the current folder)")
      .option("--no-repo", "none: the command starts in an empty folder")
      .option("--rev <revision>", "a branch, a tag or a commit (HEAD)")
      .option("--tarball <file>", "a tar archive instead of a repository; - is standard input")
      .option("--target <name>", "run a target by mk, make or npm instead of a command")
      .option("--pool <name>", "only in this pool")
      .option(
        "--label <label>",
        "what it asks of its machine, such as 4cpu8gb; may be repeated",
        more,
      )
      .option(
        "--env <name=value>",
        "a variable of the command; NAME alone takes it from here",
        more,
      )
      .option("--artifact <glob>", "files to bring back; may be repeated", more)
      .option("--timeout <duration>", "how long it may run, such as 10m (the pool's limit)")
      .option("--name <name>", "what people call it (the command)")
      .option("--wait", "show its output, and exit with its status"),
  ).action(lazily(() => import("./submit.ts")));

  common(
    add("run", "run this repository's tests, or any command, in a fresh machine here")
      .usage("[options] [-- command...]")
      .argument("[command...]", "the program and its arguments, after --; else what the tree has")
      .option("--rev <revision>", "a branch, a tag or a commit (HEAD)")
      .option(
        "--provider <name>",
        "what makes the machine: qemu, podman, host (the best that works)",
      )
      .option("--image <name>", "the machine's image, where the provider has images")
      .option("--cpu <number>", "its processors (all of this host's)")
      .option("--memory <size>", "its memory, such as 8gb (a quarter of this host's)")
      .option("--network", "let it reach the network")
      .option("--timeout <duration>", "how long all of it may take, such as 10m (1h)")
      .option("--env <name=value>", "a variable for it; NAME alone: from here or .env", more)
      .option("--artifact <glob>", "files to bring out; may be repeated", more)
      .option("--artifacts <dir>", "the folder that they go to (mayfly-artifacts)")
      .option("--keep-on-fail", "let the machine stay an hour when it fails, to look into it")
      .option("--shell", "open a shell in such a machine instead")
      .option("--enter <machine>", "open a shell in one that stayed")
      .option("--end <machine>", "end one that stayed")
      .option("--state <dir>", "the folder that holds everything"),
  ).action(lazily(() => import("./run.ts")));

  listing(
    add("jobs", "list jobs, newest first")
      .option("--waiting", "only those that wait")
      .option("--started", "only those that run")
      .option("--ended", "only those that are over"),
  ).action(lazily(() => import("./jobs.ts")));
  listing(
    add("runners", "list runners: what forges see").option("--all", "also those that are gone"),
  ).action(lazily(() => import("./runners.ts")));
  listing(
    add("machines", "list machines: what providers made, and what it costs").option(
      "--all",
      "also those that are gone",
    ),
  ).action(lazily(() => import("./machines.ts")));
  asking(add("status", "show what a running Mayfly holds, and whether its providers work")).action(
    lazily(() => import("./status.ts")),
  );

  asking(
    add("why", "say why a job waits, is where it is, or ended; why a machine is there").argument(
      "<id>",
      "a job or machine; its first letters are enough",
    ),
  ).action(lazily(() => import("./why.ts")));
  asking(
    add("logs", "show a job's output")
      .argument("<id>", job)
      .option("-f, --follow", "go on until the job is over")
      .option("-t, --timestamps", "begin each line with its time"),
  ).action(lazily(() => import("./logs.ts")));
  asking(add("cancel", "end a job").argument("<id>", job)).action(
    lazily(() => import("./cancel.ts")),
  );
  asking(
    add("artifacts", "list or fetch what a job brought back")
      .argument("<id>", job)
      .option("--to <dir>", "fetch them into this folder"),
  ).action(lazily(() => import("./artifacts.ts")));

  const remote = add(
    "remote",
    "make repositories to push to: a push becomes a job (remote add)",
  ).helpCommand(false);
  common(
    remote
      .command("add")
      .description("make a repository to push to, or write its hook anew")
      .argument("<name>", "its name")
      .option("--config <file>", configFile)
      .option("--state <dir>", "the folder that holds everything")
      .option("--server <url>", "the Mayfly that its jobs go to"),
  ).action(lazily(() => import("./remote-add.ts")));

  common(
    add("doctor", "test what Mayfly needs here, and say how to mend it")
      .option("--config <file>", configFile)
      .option("--state <dir>", "the folder that holds everything"),
  ).action(lazily(() => import("./doctor.ts")));

  asking(
    add("simulate", "say what a history of jobs would have waited and cost under other settings")
      .option("--trace <file>", "a CSV file of jobs; - is standard input (this Mayfly's history)")
      .option("--from <repository>", "fetch one: github:OWNER/REPO, gitea:https://HOST/OWNER/REPO")
      .option("--token <place>", "its token: env:NAME or file:PATH (GITHUB_TOKEN or GITEA_TOKEN)")
      .option("--since <duration>", "how far back to fetch, such as 90d (30d)")
      .option("--save <file>", "keep the history there as CSV; fetching goes on from it")
      .option("--config <file>", `${configFile}; may be repeated`, more)
      .option("--set <change>", "also with this, such as pools.small.warm=2; may be repeated", more)
      .option("--policies <names>", "only these, with commas between, such as mayfly,arc (all)")
      .option("--boot <time>", "20s or 10s-40s, also PROVIDER=20s (as measured here)", more)
      .option("--price <amount>", "0.045/h or 0.0000125/s, also PROVIDER=0.045/h", more)
      .option("--billing <steps>", "1s,60s: by steps of, and never less than (1s)", more)
      .option("--labels <labels>", "every job asks for these, with commas between")
      .option("--skip-bad-rows", "leave out rows that make no sense, and count them")
      .option("--train <part>", "0.6: judge the rest alone; this first part only teaches (0)")
      .option("--seed <number>", "another draw of boot times (1)")
      .option("--report <file>", "write a page with plots"),
  ).action(lazily(() => import("./simulate.ts")));

  const image = add(
    "image",
    "the images that QEMU machines boot (image build, list, show, prune)",
  ).helpCommand(false);
  const ofImages = (command: Command): Command =>
    common(command.option("--state <dir>", "the folder that holds everything"));
  const forPlaces = (command: Command): Command =>
    ofImages(
      command
        .option("--for <place>", "ec2: as images of an AWS account, AMIs")
        .option("--provider <name>", "that account is this provider's (the only one of kind ec2)")
        .option("--region <name>", "or the one that is found here, in this region")
        .option("--config <file>", configFile),
    );
  forPlaces(
    image
      .command("build")
      .description("make one from Debian or Ubuntu packages, and try whether it boots")
      .option("--variant <name>", "minimal, or runner: also what workflows count on (minimal)")
      .option("--arch <name>", "x64 or arm64 (this host's)")
      .option("--suite <name>", "the release, such as bookworm (this host's)")
      .option("--disk <file>", "with --for ec2: write the disk there, and send nothing"),
  ).action(lazily(async () => ({ run: (await import("./image.ts")).build })));
  forPlaces(image.command("list").description("list them, the newest first")).action(
    lazily(async () => ({ run: (await import("./image.ts")).list })),
  );
  ofImages(
    image
      .command("show")
      .description("say what one holds")
      .argument("<image>", "a variant, or the beginning of a digest"),
  ).action(lazily(async () => ({ run: (await import("./image.ts")).show })));
  forPlaces(
    image
      .command("prune")
      .description("remove those that are damaged or that a newer one replaces")
      .option("--all", "remove every image")
      .option("--dry-run", "only say which"),
  ).action(lazily(async () => ({ run: (await import("./image.ts")).prune })));

  const aws = add(
    "aws",
    "what Mayfly needs at AWS, as one stack (aws up, down, status, template)",
  ).helpCommand(false);
  const shaped = (command: Command): Command =>
    command
      .option("--zones <number>", "zones with a subnet (3)")
      .option("--installation <word>", "only its machines: the first word of their names (any)")
      .option("--manager <kind>", "what Mayfly is to AWS: user, role, none (user)")
      .option("--parameter", "machines take their claim from Parameter Store")
      .option("--no-parameter", "they have no role (so by default)")
      .option("--front [number]", "a front for webhooks, so many at once (5; 0: any number)")
      .option("--no-front", "none (so by default)");
  const ofStack = (command: Command): Command =>
    common(
      command
        .option("--region <region>", "AWS's region (AWS_REGION)")
        .option("--name <name>", "the stack's name (mayfly)"),
    );
  const changing = (command: Command): Command =>
    command.option("--dry-run", "only say what would be done").option("--yes", "do not ask");
  ofStack(
    changing(
      shaped(aws.command("up").description("put it up or change it; says first what it costs")),
    ),
  ).action(lazily(async () => ({ run: (await import("./aws.ts")).up })));
  ofStack(
    changing(aws.command("down").description("end the machines in it, and take it away")),
  ).action(lazily(async () => ({ run: (await import("./aws.ts")).down })));
  ofStack(aws.command("status").description("say how it stands")).action(
    lazily(async () => ({ run: (await import("./aws.ts")).status })),
  );
  common(
    shaped(aws.command("template").description("print it, for CloudFormation by other ways")),
  ).action(lazily(async () => ({ run: (await import("./aws.ts")).template })));

  const config = add(
    "config",
    "check the configuration, or describe it (config check, config schema)",
  ).helpCommand(false);
  common(
    config
      .command("check")
      .description("say what is wrong in a configuration, or what it amounts to")
      .argument("[file]", "the configuration (mayfly.yaml here)")
      .option("--config <file>", "the same, as other commands name it"),
  ).action(lazily(() => import("./config-check.ts")));
  common(
    config.command("schema").description("print the JSON Schema of mayfly.yaml, for editors"),
  ).action(lazily(() => import("./config-schema.ts")));
  return root;
}

function more(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}
