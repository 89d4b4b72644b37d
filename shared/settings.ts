/**
 * Settings of a daemon: one table says each key, its kind, default and help; from it come the YAML reader, the
 * command-line flags (kebab case) and the list of mistakes. Flags win over the file. All mistakes are reported at once,
 * each with its line and key, and unknown keys with the nearest known one.
 */

/** `bytes`: `64MiB`, B KiB MiB GiB; `duration`: `250ms`, ms s m h d; `list`: YAML sequence, repeated flag. */
export type SettingKind = 'string' | 'integer' | 'bytes' | 'duration' | 'boolean' | 'list' | 'choice' | 'map'

export interface Setting {
  readonly kind: SettingKind
  readonly help: string
  /** Shown in the help; undefined = no default, and the value may be absent. */
  readonly default?: string | number | boolean | readonly string[]
  readonly choices?: readonly string[]
  readonly min?: number
  readonly max?: number
  /** Whether a list or string must be there. */
  readonly required?: boolean
}

export type SettingTable = Readonly<Record<string, Setting>>

export interface SettingProblem {
  /** 1-based line in the file, undefined for flags and missing keys. */
  readonly line: number | undefined
  readonly key: string
  readonly message: string
}
