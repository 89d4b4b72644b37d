/** Help texts: what it does, examples first, then the options. */
import type { CommandSpec, OptionSpec } from './command.ts'

const exitCodeText = `Exit codes: 0 found or ok, 1 nothing found (verify: a difference), 2 usage, 3 partial result (printed all the same),
4 cannot connect or not allowed, 5 sink failed, 130 interrupted.`

export function formatProgramHelp(commands: readonly CommandSpec[]): string {
  const width = Math.max(...commands.map(({ name }) => name.length))
  const rows = commands.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`)
  return [
    'tailrace: read, follow, replay and check the logs of a collector',
    '',
    'Examples:',
    "  tailrace query 'connection refused' -t app -S 1h",
    '  tailrace tail -t nginx',
    '  tailrace cat web-1:/var/log/app.log > app.log',
    '  tailrace verify',
    '',
    'Commands:',
    ...rows,
    '',
    'tailrace <command> --help shows examples and flags. All take --server URL (TAILRACE_SERVER, default http://127.0.0.1:4280).',
    exitCodeText,
    '',
  ].join('\n')
}

export function formatCommandHelp(spec: CommandSpec, fullName: string): string {
  const usage = [fullName, spec.subcommands === undefined ? '' : '[command]', ...(spec.operands ?? []), '[options]']
  const lines = [`Usage: ${usage.filter((word) => word !== '').join(' ')}`, '', spec.summary, '', 'Examples:']
  for (const { command, meaning } of spec.examples) lines.push(`  ${command}`, `      ${meaning}`)
  if (spec.subcommands !== undefined) {
    lines.push('', 'Commands:', ...columns(spec.subcommands.map(({ name, summary }) => [name, summary])))
  }
  lines.push('', 'Options:', ...columns([...spec.options.map(optionRow), ['-h, --help', 'show this']]))
  if (spec.details !== undefined) lines.push('', spec.details)
  lines.push('', exitCodeText, '')
  return lines.join('\n')
}

function optionRow(option: OptionSpec): readonly [string, string] {
  const choices = option.choices === undefined ? '' : ` (${option.choices.join(', ')})`
  return [option.flags.startsWith('--') ? `    ${option.flags}` : option.flags, `${option.help}${choices}`]
}

function columns(rows: ReadonlyArray<readonly [string, string]>): string[] {
  const width = Math.max(...rows.map(([left]) => left.length))
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`)
}
