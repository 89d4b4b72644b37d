/**
 * What can go wrong in a run. A seed turns on some of these; a run that failed is made smaller by turning them off again.
 */
export const kinds = [
  // The world of files.
  'rename', 'rename in glob', 'copytruncate', 'delete', 'gz', 'banner', 'truncate', 'restore', 'small files', 'partial lines', 'odd bytes',
  'inode reuse', 'no birth times', 'clone', 'long quiet',
  // How the agent sees it.
  'no events', 'short reads', 'read errors', 'wall jumps',
  // Processes.
  'kill agent', 'stop agent', 'kill collector', 'power cut',
  // The network.
  'lost messages', 'cut messages', 'late messages', 'crossed answers', 'slow network', 'outage',
  // The collector's disk.
  'slow disk', 'disk full', 'short writes', 'failed sync', 'set back', 'lying sync',
  // Its work.
  'small segments', 'export', 'retention', 'second host',
] as const

export type Kind = (typeof kinds)[number]

export function isKind(text: string): text is Kind {
  return kinds.some((kind) => kind === text)
}
