// Broken: the channel is closed twice.
package main

import "fmt"

func main() {
	words := make(chan string, 1)
	defer close(words)
	words <- "first"
	close(words)
	fmt.Println("received:", <-words)
}
