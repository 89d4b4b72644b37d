/** What a workload is: it runs once and answers figures by name; units stand in the names. */
export type Figures = Readonly<Record<string, number>>

export interface Workload {
  readonly title: string
  run(options: { readonly megabytes: number }): Promise<Figures>
}
