package constructs

import "log"

// show
func logClose(reason string) {
	log.Printf("error: %q", reason) // always one line
}
