/**
 * What a command is, without commander: its name, help, options and what it runs. index.ts turns these descriptions
 * into the parser and the help, so that every command is one file that can be called from a test.
 */
import { assert } from '../../shared/errors.ts'
import type { CliContext } from './context.ts'
import { usageError } from './exit-codes.ts'
import type { TimeZone } from './human.ts'

/** `list` may be given several times; `integer` is ≥ 0; `choice` is one of `choices`. */
export type OptionKind = 'flag' | 'text' | 'list' | 'integer' | 'choice'

export interface OptionSpec {
  /** As in help: `-S, --since <time>`. */
  readonly flags: string
  readonly kind: OptionKind
  readonly help: string
  readonly choices?: readonly string[]
}

export interface Example {
  readonly command: string
  readonly meaning: string
}

export interface CommandSpec {
  readonly name: string
  /** Operands as in help: `[pattern]`, `<host:path>`, `<name>`. */
  readonly operands?: readonly string[]
  readonly summary: string
  readonly examples: readonly Example[]
  readonly options: readonly OptionSpec[]
  /** Paragraphs behind the options. */
  readonly details?: string
  readonly subcommands?: readonly CommandSpec[]
  /** Resolves with the exit code. Expected failures are AppErrors. */
  readonly run: (input: CommandInput, context: CliContext) => Promise<number>
}

/** Operands and options as parsed; the getters know which kind an option has, so a wrong name is a bug. */
export class CommandInput {
  readonly operands: readonly string[]
  private readonly values: ReadonlyMap<string, unknown>

  constructor(operands: readonly string[], values: Readonly<Record<string, unknown>>) {
    this.operands = operands
    this.values = new Map(Object.entries(values))
  }

  flag(name: string): boolean {
    return this.values.get(name) === true
  }

  text(name: string): string | undefined {
    const value = this.values.get(name)
    assert(value === undefined || typeof value === 'string', `option ${name} holds text`)
    return value
  }

  list(name: string): readonly string[] {
    const value = this.values.get(name)
    if (value === undefined) return []
    assert(Array.isArray(value), `option ${name} is a list`)
    return value.map(String)
  }

  integer(name: string): number | undefined {
    const text = this.text(name)
    if (text === undefined) return undefined
    if (!/^[0-9]{1,15}$/.test(text)) throw usageError(`--${kebab(name)} ${text} is not a whole number`)
    return Number(text)
  }

  /** The same with some options set. */
  with(values: Readonly<Record<string, unknown>>): CommandInput {
    return new CommandInput(this.operands, { ...Object.fromEntries(this.values), ...values })
  }

  get zone(): TimeZone {
    return { utc: this.flag('utc') }
  }
}

function kebab(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
}

/** Options that every command with a server has. */
export const serverOptions: readonly OptionSpec[] = [
  { flags: '--server <url>', kind: 'text', help: 'the collector (TAILRACE_SERVER, default http://127.0.0.1:4280)' },
  { flags: '--token-file <file>', kind: 'text', help: 'file with the bearer token (or the token itself in TAILRACE_TOKEN)' },
  { flags: '--ca-file <file>', kind: 'text', help: 'trust only this authority (PEM) for https' },
  { flags: '--utc', kind: 'flag', help: 'times in and out are UTC, not the local zone' },
]

/** Of commands that only read: an export store in the place of a collector. */
export const storeOptions: readonly OptionSpec[] = [
  { flags: '--from <url>', kind: 'list', help: 'read an export store, no collector needed: file:///folder, webhdfs://namenode:9870/folder' },
  { flags: '--hdfs-user <name>', kind: 'text', help: 'user.name for that store' },
  { flags: '--hdfs-auth <how>', kind: 'choice', choices: ['simple', 'kerberos'], help: 'how to authenticate there (default simple)' },
  { flags: '--hdfs-token-file <file>', kind: 'text', help: 'file with a delegation token for it' },
  { flags: '--hdfs-mode <mode>', kind: 'choice', choices: ['webhdfs', 'httpfs'], help: 'what answers there (default webhdfs)' },
  { flags: '--hdfs-allowed-hosts <host>', kind: 'list', help: 'where its NameNode may redirect to (repeat for more; default: its neighbours)' },
]

export const jsonOption: OptionSpec = { flags: '--json', kind: 'flag', help: 'one JSON array instead of a table' }

/** Which streams: of `cat`, `verify` and `streams`. */
export const streamFilterOptions: readonly OptionSpec[] = [
  { flags: '-t, --topic <glob>', kind: 'list', help: 'only these topics (repeat for more)' },
  { flags: '--host <glob>', kind: 'text', help: 'only streams of these hosts' },
  { flags: '--path <glob>', kind: 'text', help: 'only streams of these files; ** crosses folders' },
  { flags: '--stream <id>', kind: 'text', help: 'only the stream with this id (the first digits do)' },
]
