/**
 * The command line: turns the command descriptions into commander's parser, prints help and errors, and answers the
 * exit code. The only file here that knows commander. Takes its streams, so that tests call it like a shell does.
 */
import { Command, CommanderError, Option } from 'commander'
import { AppError, errnoOf, toAppError } from '../../shared/errors.ts'
import { catCommand } from './cat.ts'
import { CommandInput, type CommandSpec, type OptionSpec } from './command.ts'
import type { CliContext } from './context.ts'
import { exitCodeOf, exitCodes } from './exit-codes.ts'
import { exportsCommand } from './exports.ts'
import { formatCommandHelp, formatProgramHelp } from './help.ts'
import { inspectCommand } from './inspect.ts'
import { offsetsCommand } from './offsets.ts'
import { Output } from './output.ts'
import { queryCommand } from './query.ts'
import { replayCommand } from './replay.ts'
import { statusCommand } from './status.ts'
import { streamsCommand } from './streams.ts'
import { tailCommand } from './tail.ts'
import { topicsCommand } from './topics.ts'
import { verifyCommand } from './verify.ts'

const commands: readonly CommandSpec[] = [
  queryCommand, tailCommand, catCommand, verifyCommand, replayCommand, topicsCommand, streamsCommand, offsetsCommand,
  exportsCommand, statusCommand, inspectCommand,
]

/** `argv` without the program: `['query', 'error', '-t', 'app']`. Never rejects but for bugs. */
export async function runCli(argv: readonly string[], context: CliContext): Promise<number> {
  const stdout = new Output(context.stdout)
  const stderr = new Output(context.stderr)
  let chosen: (() => Promise<number>) | undefined
  const program = buildProgram(context.version, {
    stdout,
    stderr,
    choose: (spec, input) => {
      chosen = () => spec.run(input, context)
    },
  })
  try {
    program.parse([...argv], { from: 'user' })
    const code = chosen === undefined ? exitCodes.usage : await chosen()
    await stdout.flush()
    return code
  } catch (error) {
    return await report(error, { context, stdout, stderr })
  }
}

interface ProgramHooks {
  readonly stdout: Output
  readonly stderr: Output
  readonly choose: (spec: CommandSpec, input: CommandInput) => void
}

function buildProgram(version: string, hooks: ProgramHooks): Command {
  const program = prepare(new Command('tailrace'), hooks)
  program.version(version, '-V, --version', 'print the version')
  program.configureHelp({ formatHelp: () => formatProgramHelp(commands) })
  for (const spec of commands) addCommand(program, spec, hooks)
  return program
}

function addCommand(parent: Command, spec: CommandSpec, hooks: ProgramHooks): void {
  const command = prepare(parent.command(spec.name), hooks)
  command.summary(spec.summary).description(spec.summary)
  command.configureHelp({ formatHelp: () => formatCommandHelp(spec, nameOf(command)) })
  for (const operand of spec.operands ?? []) command.argument(operand)
  for (const option of spec.options) command.addOption(toOption(option))
  for (const subcommand of spec.subcommands ?? []) addCommand(command, subcommand, hooks)
  command.action(() => {
    hooks.choose(spec, new CommandInput(command.args, command.optsWithGlobals()))
  })
}

function prepare(command: Command, { stdout, stderr }: ProgramHooks): Command {
  return command
    .exitOverride()
    .allowExcessArguments(false)
    .configureOutput({
      writeOut: (text) => {
        stdout.put(text)
      },
      writeErr: (text) => {
        stderr.put(text)
      },
      outputError: () => undefined, // report() prints it, once
    })
}

function nameOf(command: Command): string {
  return command.parent === null ? command.name() : `${nameOf(command.parent)} ${command.name()}`
}

function toOption(spec: OptionSpec): Option {
  const option = new Option(spec.flags, spec.help)
  if (spec.choices !== undefined) option.choices(spec.choices)
  if (spec.kind === 'list') {
    // Commander gives undefined the first time, whatever the type says.
    option.argParser<readonly string[] | undefined>((value, earlier) => [...(earlier ?? []), value])
  }
  return option
}

interface ReportContext {
  readonly context: CliContext
  readonly stdout: Output
  readonly stderr: Output
}

async function report(error: unknown, { context, stdout, stderr }: ReportContext): Promise<number> {
  if (context.signal.aborted) return context.signal.reason === 'pipe' ? exitCodes.brokenPipe : exitCodes.interrupted
  if (error instanceof CommanderError) {
    await stdout.flush()
    if (error.exitCode === 0) return exitCodes.ok
    // Help that was shown because no command was given is on stderr already.
    if (error.code !== 'commander.help') stderr.put(`${usageText(error)}\n`)
    await stderr.flush()
    return exitCodes.usage
  }
  // What is neither expected nor the platform's own is a bug: the entry tells it and dies.
  if (!(error instanceof AppError) && errnoOf(error) === undefined) throw error
  await stdout.flush()
  const known = toAppError(error)
  await stderr.line(`tailrace: ${known.message} (${known.code})`)
  if (known.hint !== undefined) await stderr.line(`  hint: ${known.hint}`)
  return exitCodeOfAny(error, known)
}

/** What is not an AppError came from the platform: the disk, most likely. */
function exitCodeOfAny(error: unknown, known: AppError): number {
  return error === known ? exitCodeOf(known) : exitCodes.sinkFailed
}

function usageText(error: CommanderError): string {
  return `tailrace: ${error.message.replace(/^error: /, '')} (BAD_REQUEST)\n  hint: tailrace help shows the commands, tailrace <command> --help its flags`
}
