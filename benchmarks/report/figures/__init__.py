"""How figures look: `style` has colours, dashes, legends and the files they are written to, `scatter` plots pairs."""
