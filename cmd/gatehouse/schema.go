package main

import (
	"github.com/spf13/cobra"

	"gatehouse/config"
)

func (a *app) schemaCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of gateway.yaml",
		Long: "Prints the JSON Schema of gateway.yaml, with which editors complete and check it.\n" +
			"An editor with yaml-language-server takes it from the file's first line:\n\n" +
			"  # yaml-language-server: $schema=gateway.schema.json",
		Example: "  gatehouse schema > gateway.schema.json",
		RunE: func(*cobra.Command, []string) error {
			_, err := a.stdout.Write(config.Schema())
			return err
		},
	}
}
