/** `tailrace tail`: `query -f`, for the fingers. */
import { serverOptions, type CommandSpec } from './command.ts'
import { contextOptions, printOptions, runQuery } from './query.ts'
import { arrivalTimeText, filterOptions } from './record-filter.ts'

export const tailCommand: CommandSpec = {
  name: 'tail',
  operands: ['[pattern]'],
  summary: 'follow new lines as they arrive, after the newest 10',
  examples: [
    { command: 'tailrace tail -t nginx', meaning: 'everything that arrives in one topic' },
    { command: "tailrace tail -E ' 5[0-9]{2} ' --host 'web-*'", meaning: 'server errors of all web hosts' },
    { command: 'tailrace tail -S 14:30 -o json', meaning: 'from half past two on, one JSON object a line' },
  ],
  options: [
    ...filterOptions.filter(({ flags }) => !flags.startsWith('-U')),
    ...contextOptions,
    ...printOptions,
    { flags: '--from <cursor>', kind: 'list', help: 'go on at the offsets of an earlier cursor' },
    ...serverOptions,
  ],
  details: `${arrivalTimeText}\nA lost connection is made again, and goes on behind the last line that was printed.`,
  run: (input, context) => runQuery(input.with({ follow: true }), context),
}
